-- Where there is work: the first job of each (queue, priority) that has one for this worker, as three arrays, and the seconds
-- that the server took to find them. By skip scan: the next priority of this queue, else the next queue. Dead index entries
-- before a first job are read here, once, and by no claim. Then the gates at which jobs wait that nobody has
-- looked at yet, and the rules that jobs of a whole task or queue are under.
with recursive head as (
  (
    select queue, priority, seq
    from {schema}.job
    where state = 'queued' and %(queues)s::text[] is null and task <> all (%(unknown)s::text[])
    order by queue, priority desc, seq
    limit 1
  )
  union all
  -- A worker that names its queues looks up each; nothing follows on from them but their other priorities.
  select first.queue, first.priority, first.seq
  from unnest(%(queues)s::text[]) as named (queue)
  cross join lateral (
    select queue, priority, seq
    from {schema}.job
    where state = 'queued' and queue = named.queue and task <> all (%(unknown)s::text[])
    order by priority desc, seq
    limit 1
  ) as first
  union all
  select following.queue, following.priority, following.seq
  from head
  cross join lateral (
    (
      select queue, priority, seq
      from {schema}.job
      where state = 'queued' and queue = head.queue and priority < head.priority and task <> all (%(unknown)s::text[])
      order by priority desc, seq
      limit 1
    )
    union all
    (
      select queue, priority, seq
      from {schema}.job
      where
        state = 'queued' and queue > head.queue and %(queues)s::text[] is null and task <> all (%(unknown)s::text[])
      order by queue, priority desc, seq
      limit 1
    )
    limit 1
  ) as following
)
select
  coalesce(array_agg(queue), '{}') as queues,
  coalesce(array_agg(priority), '{}') as priorities,
  coalesce(array_agg(seq), '{}') as seqs,
  extract(epoch from clock_timestamp() - statement_timestamp())::float8 as took_s,
  array(
    select distinct fresh.gate
    from (
      select gates[1] as gate
      from {schema}.job
      where state = 'waiting' and gate is not null and gate = 0
      order by gates[greatest(gate, 1::smallint)]
      limit 1000
    ) as fresh
  ) as fresh,
  -- The limits of whole tasks and queues. A job may have been put in before they were known, or by who does not know them.
  array(
    select name
    from {schema}.gate
    where
      strpos(name, '=') = 0 and not keyed and (starts_with(name, 'task:') or starts_with(name, 'queue:'))
      and (
        slots is not null or every_s is not null or break_share is not null
        or closed_at is not null and coalesce(closed_until > statement_timestamp(), true)
      )
  ) as rules
from head
where not exists (select from {schema}.queue where name = head.queue and paused_at is not null and coalesce(resume_at > now(), true))
