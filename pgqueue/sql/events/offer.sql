-- Make a job for each of these lanes for which a batch is due, and move those on for which there is nothing. The job reads the
-- events itself, from the place of its lane on.
with page as materialized (
  select event.seq, event.type, event.key, event.at
  from {window}
  where {wanted}
  order by event.seq
  limit %(most)s
),
read as (
  select count(*)::integer as events, max(seq) as last from page
),
waiter as (
  select
    subscription.name, subscription.types, subscription.lanes, subscription.batch, subscription.task, subscription.queue,
    subscription.priority, subscription.max_attempts, subscription.timeout_s, subscription.headers,
    coalesce(subscription.batch_wait_s, 0) * interval '1 second' as batch_wait, place.lane
  from unnest(%(names)s::text[], %(lanes)s::smallint[]) as named (name, lane)
  join {schema}.subscription on subscription.name = named.name
  join {schema}.place on
    place.subscription = named.name and place.lane = named.lane and place.tick = %(tick)s and place.seq = %(seq)s
),
wanted as (
  select waiter.name, waiter.lane, count(*) as events, min(page.at) as first_at
  from waiter
  join page on
    {schema}.event_matches(page.type, waiter.types)
    -- As in wanted_by_lane.sql.
    and (
      waiter.lanes = 1
      or mod(
        case when page.key = '' then page.seq else hashtextextended(page.key, 0) & 9223372036854775807 end, waiter.lanes
      ) = waiter.lane
    )
  group by waiter.name, waiter.lane
),
gathered as (
  select
    waiter.*,
    wanted.events >= waiter.batch or read.events = %(most)s or wanted.first_at + waiter.batch_wait <= clock_timestamp() as full,
    extract(epoch from wanted.first_at + waiter.batch_wait - clock_timestamp())::float8 as due_s
  from read cross join waiter join wanted on wanted.name = waiter.name and wanted.lane = waiter.lane
),
made as (
  insert into {schema}.job (id, task, queue, priority, max_attempts, timeout_s, headers, unique_key)
  select
    {schema}.uuid7(), task, queue, priority, max_attempts, timeout_s,
    (coalesce(headers, '{}')::jsonb || jsonb_build_object('pgqueue.lane', jsonb_build_array(name, lane)))::text,
    'pgqueue.lane:' || lane || ':' || name
  from gathered
  where gathered.full
  on conflict (unique_key) where unique_key is not null do nothing
  returning queue
),
latest as (
  select id, snap from {schema}.tick where id > %(tick)s order by id desc limit 1
),
ticked as (
  insert into {schema}.tick (era, snap)
  select %(era)s, %(upto)s::pg_snapshot
  from read
  where
    events > 0 and %(next)s::bigint is null and (select count(*) from gathered) < (select count(*) from waiter)
    and not exists (select from latest where snap::text = %(upto)s::pg_snapshot::text)
  returning id
),
moved as (
  update {schema}.place
  set
    tick = case when read.events < %(most)s
      then coalesce(%(next)s::bigint, (select id from ticked), (select id from latest)) else place.tick end,
    seq = case when read.events < %(most)s then 0 else read.last end,
    number = place.number + read.events,
    moved_at = now()
  from read, waiter
  where
    place.subscription = waiter.name and place.lane = waiter.lane and place.tick = %(tick)s and place.seq = %(seq)s
    and not exists (select from gathered where gathered.name = waiter.name and gathered.lane = waiter.lane)
    and (read.events > 0 or %(next)s::bigint is not null or exists (select from latest))
  returning place.lane
),
bell as (
  select pg_notify('{channel}', queue) from (select distinct queue from made) as due where pg_notification_queue_usage() < 0.5
)
select
  (select count(*) from made)::integer as jobs,
  (select count(*) from moved)::integer as moved,
  read.events = %(most)s or %(next)s::bigint is not null as more,
  (select min(due_s) from gathered where not gathered.full) as due_s,
  (select count(*) from bell)::integer as bells
from read
