-- Delete these ended jobs, with what is kept of their failed attempts. The time of an end names its partition.
with held as (
  select kept.*
  from unnest(%(ids)s::uuid[], %(times)s::timestamptz[]) as wanted (id, finished_at)
  -- One by one, by the limit: as a join it read and kept all of history before that was analyzed.
  cross join lateral (
    select id, ctid as place
    from {schema}.history
    where
      id = wanted.id and finished_at = wanted.finished_at
      and state = %(state)s
      and (%(queue)s::text is null or queue = %(queue)s)
      and (%(task)s::text is null or task = %(task)s)
    limit 1
    for update skip locked
  ) as kept
),
gone as (
  delete from {schema}.history
  where
    -- By their places, of which each partition may have some, and the ids tell which: places are read without a plan to choose.
    ctid = any (array(select place from held))
    and (id, ctid) in (select id, place from held)
    and finished_at between (select min(at) from unnest(%(times)s::timestamptz[]) as at)
    and (select max(at) from unnest(%(times)s::timestamptz[]) as at)
    and state = %(state)s
  returning id
),
forgotten as (
  delete from {schema}.attempt
  where job_id = any (array(select id from gone))
),
audited as (
  insert into {schema}.audit (action, queue, task, state, jobs)
  select 'purge', %(queue)s, %(task)s, %(state)s, count(*) from gone having count(*) > 0
)
select id::text
from gone
