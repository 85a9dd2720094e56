-- Delete up to `limit` ended jobs in one state, with what is kept of their failed attempts.
with gone as (
  delete from {schema}.history
  where state = %(state)s and id in (
    select id
    from {schema}.history
    where
      state = %(state)s
      and (%(queue)s::text is null or queue = %(queue)s)
      and (%(task)s::text is null or task = %(task)s)
    order by id
    limit %(limit)s
    for update skip locked
  )
  returning id
),
forgotten as (
  delete from {schema}.attempt
  where job_id in (select id from gone)
),
audited as (
  insert into {schema}.audit (action, queue, task, state, jobs)
  select 'purge', %(queue)s, %(task)s, %(state)s, count(*) from gone having count(*) > 0
)
select id::text
from gone
