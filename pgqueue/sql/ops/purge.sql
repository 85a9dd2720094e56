-- Delete these jobs, if they still are what was asked for, with what is kept of their failed attempts; running ones are never
-- touched.
with held as (
  select kept.id
  from unnest(%(ids)s::uuid[]) as wanted (id)
  -- One by one, by the limit: asked for all, the planner may read the index of a whole state as well.
  cross join lateral (
    select id
    from {schema}.job
    where
      id = wanted.id
      and state = %(state)s and state <> 'running'
      and (%(queue)s::text is null or queue = %(queue)s)
      and (%(task)s::text is null or task = %(task)s)
    limit 1
    for update skip locked
  ) as kept
),
gone as (
  delete from {schema}.job
  where id = any (array(select id from held))
  returning id, gates, gate
),
freed as (
  select distinct held.gate
  from gone
  cross join lateral unnest(gone.gates) with ordinality as held (gate, place)
  where gone.gate > held.place
),
{poked},
forgotten as (
  delete from {schema}.attempt
  where job_id = any (array(select id from gone))
),
audited as (
  insert into {schema}.audit (action, queue, task, state, jobs)
  select 'purge', %(queue)s, %(task)s, %(state)s, count(*) from gone having count(*) > 0
)
-- Asked for, or nobody would be told.
select id::text
from gone
where (select count from rung) >= 0
