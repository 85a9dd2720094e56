-- Make a job for each event of a page and each of these subscriptions that wants it, and move them on. In the transaction that
-- found their place, so that an event has one job for each of them, or none yet.
with page as materialized (
  select event.*
  from {window}
  where {wanted}
  order by event.seq
  limit %(most)s
),
made as (
  insert into {schema}.job (id, task, queue, priority, max_attempts, timeout_s, args, headers)
  select
    {schema}.uuid7(), subscription.task, subscription.queue, subscription.priority, subscription.max_attempts,
    subscription.timeout_s,
    -- The payload as it was given: one that is not JSON fails as a job, and stops no other.
    '[{"id":"' || page.id || '","type":' || to_json(page.type)
      || ',"at":"' || to_char(page.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
      || '","key":' || coalesce(to_json(nullif(page.key, ''))::text, 'null')
      || ',"headers":' || coalesce(nullif(page.headers, ''), 'null')
      || ',"payload":' || page.payload || '}]',
    subscription.headers
  from page
  join {schema}.subscription on
    subscription.name = any (%(names)s::text[]) and {schema}.event_matches(page.type, subscription.types)
  order by page.seq, subscription.name
  returning queue
),
read as (
  select count(*)::integer as events, max(seq) as last from page
),
ticked as (
  insert into {schema}.tick (era, snap)
  select %(era)s, %(upto)s::pg_snapshot
  from read
  where events > 0 and %(next)s::bigint is null
  returning id
),
moved as (
  update {schema}.place
  set
    tick = case when read.events < %(most)s then coalesce(%(next)s::bigint, ticked.id) else place.tick end,
    seq = case when read.events < %(most)s then 0 else read.last end,
    number = place.number + read.events,
    moved_at = now(),
    error = null
  from read left join ticked on true
  where
    place.subscription = any (%(names)s::text[]) and place.tick = %(tick)s and place.seq = %(seq)s
    and (read.events > 0 or %(next)s::bigint is not null)
  returning place.subscription
),
bell as (
  select pg_notify('{channel}', queue) from (select distinct queue from made) as due where pg_notification_queue_usage() < 0.5
)
select
  -- Moved by hand meanwhile, without the lock: the jobs that were just made must not stay, so this is an error.
  case when read.events = 0 and %(next)s::bigint is null or moved.places = cardinality(%(names)s::text[]) then read.events
    else ('only ' || moved.places || ' places are where they were')::integer end as events,
  (select count(*) from made)::integer as jobs,
  (select count(*) from bell)::integer as bells
from read, (select count(*) as places from moved) as moved
