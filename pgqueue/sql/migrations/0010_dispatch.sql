-- A round of the dispatcher in one call: it was seven statements in two exchanges, and two thirds of its time was the client's.
-- works_with: 1

-- A page of events: those that one snapshot does not see and a later one does, from a place on, in the order of delivery. As window.sql
-- and window_of_few.sql, of which one is chosen here: each is a statement that walks along the index in a plan made for any values.
create function {schema}.event_page(
  since pg_snapshot, upto pg_snapshot, era smallint, after bigint, from_at timestamptz, most integer, few integer, here boolean
)
returns setof {schema}.event
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  first  bigint := pg_snapshot_xmax(since)::text::bigint;
  last   bigint := pg_snapshot_xmax(upto)::text::bigint - 1;
begin
  if here then
    return query
    select *
    from {schema}.event
    where
      seq > after and at >= from_at
      and (xid = pg_current_xact_id_if_assigned() or not pg_visible_in_snapshot(xid, since))
    order by seq;
  elsif after > 0 and last - first + (select count(*) from pg_snapshot_xip(since)) < few then
    -- There is more than one page: for less, to look at each transaction costs more than it saves.
    return query
    select event.*
    from (
      select pg_snapshot_xip(since) as xid
      union all
      select number::text::xid8 from generate_series(first, last) as number
    ) as published
    cross join lateral (
      select *
      from {schema}.event
      where
        event.xid = published.xid and event.era = event_page.era and event.seq > after and event.at >= from_at
      order by event.seq
      limit most
    ) as event
    where pg_visible_in_snapshot(published.xid, upto)
    order by event.seq
    limit most;
  else
    return query
    select *
    from (
      select *
      from {schema}.event
      where
        xid = any (array(select pg_snapshot_xip(since))) and pg_visible_in_snapshot(xid, upto)
        and event.era = event_page.era and seq > after and at >= from_at
      union all
      select *
      from {schema}.event
      where
        xid >= pg_snapshot_xmax(since) and xid < pg_snapshot_xmax(upto) and pg_visible_in_snapshot(xid, upto)
        and event.era = event_page.era and seq > after and at >= from_at
    ) as event
    order by seq
    limit most;
  end if;
end
$$;

-- Make a job of each event for each subscription that wants one, and a job for each lane of batches where one is due: a page for
-- each place where subscriptions are, and each place moves in the transaction that makes its jobs, so that an event has exactly one
-- job for each of them. One dispatcher at a time: "lock, then look", as each statement of a volatile function has a snapshot of
-- its own, and the one that reads the places must see all that the last dispatcher did.
--
-- held: subscriptions that have jobs enough. size: jobs for one place, about, but `fewest` events are read at least. few: of how many
-- transactions a window is read along the index of each. here: the caller's own transaction is a test's, whose events no snapshot
-- tells from those before: all of them are read, no lock is taken, no tick is made.
--
-- A row for each place that was read: names of subscriptions (of batches none), events (of batches those lanes that moved or have a
-- job now), jobs, is_full (there were as many events as were asked for), more (there is more than that), due_s (until a batch need not
-- wait any longer for its last events). Where another dispatcher is at it, one row that is busy.
create function {schema}.dispatch_events(
  lock_class integer, held text[], size integer, fewest integer, few integer, here boolean default false
)
returns table (
  busy boolean, names text[], events integer, jobs integer, is_full boolean, more boolean, due_s double precision
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  front   record;
  most    integer;
  since   pg_snapshot;
  upto    pg_snapshot;
  moved   integer;
begin
  busy := false;
  if not here then
    if not pg_try_advisory_xact_lock(lock_class, hashtext('{schema}.dispatch')) then
      busy := true;
      return next;
      return;
    end if;
    -- Ticks have their numbers in the order of their snapshots: an inverted pair would deliver twice.
    perform pg_advisory_xact_lock(lock_class, hashtext('{schema}.tick'));
    -- Nobody waits for the disk here: whoever writes about one of these jobs, as who claims it, waits for all that was written before.
    -- After a crash jobs and places are both there, or neither; then they are made again, and nothing knew them.
    perform set_config('synchronous_commit', 'off', true);
  end if;

  for front in
    -- No next tick: the snapshot of this statement is the next.
    select
      place.tick,
      place.seq,
      coalesce(next.era, since.era) as era,
      since.snap::text as since,
      next.id as next,
      coalesce(next.snap::text, pg_current_snapshot()::text) as upto,
      coalesce(place.from_at, '-infinity') as from_at,
      array_agg(subscription.name order by subscription.name) as names
    from {schema}.subscription
    join {schema}.place on place.subscription = subscription.name
    join {schema}.tick as since on since.id = place.tick
    left join lateral (
      select id, era, snap from {schema}.tick where id > place.tick order by id limit 1
    ) as next on true
    where subscription.mode = 'job' and subscription.paused_at is null and subscription.name <> all (held)
    group by place.tick, place.seq, place.from_at, since.era, since.snap::text, next.id, next.era, next.snap::text
    order by place.tick, place.seq
  loop
    continue when front.next is null and front.since = front.upto and not here;
    most := greatest(fewest, size / cardinality(front.names));
    since := front.since;
    upto := front.upto;
    with page as materialized (
      select * from {schema}.event_page(since, upto, front.era, front.seq, front.from_at, most, few, here)
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
        subscription.name = any (front.names) and {schema}.event_matches(page.type, subscription.types)
      order by page.seq, subscription.name
      returning queue
    ),
    read as (
      select count(*)::integer as events, max(seq) as last from page
    ),
    ticked as (
      insert into {schema}.tick (era, snap)
      select front.era, upto
      from read
      where events > 0 and front.next is null and not here
      returning id
    ),
    moved as (
      update {schema}.place
      set
        tick = case when read.events < most and not here then coalesce(front.next, ticked.id) else place.tick end,
        seq = case when read.events < most and not here then 0 else coalesce(read.last, place.seq) end,
        number = place.number + read.events,
        moved_at = now(),
        error = null
      from read left join ticked on true
      where
        place.subscription = any (front.names) and place.tick = front.tick and place.seq = front.seq
        and (read.events > 0 or front.next is not null)
      returning place.subscription
    ),
    bell as (
      select pg_notify('{channel}', queue) from (select distinct queue from made) as due where pg_notification_queue_usage() < 0.5
    )
    select read.events, (select count(*) from made), (select count(*) from moved), (select count(*) from bell)
    into events, jobs, moved
    from read;
    if moved < cardinality(front.names) and (events > 0 or front.next is not null) then
      -- Moved by hand meanwhile, without the lock: the jobs that were just made must not stay.
      raise exception 'only % of % places are where they were', moved, cardinality(front.names)
        using errcode = 'serialization_failure';
    end if;
    names := front.names;
    is_full := events = most;
    more := is_full or front.next is not null;
    return next;
  end loop;

  for front in
    -- Lanes of batches that have no job. All that is there by now counts, and not only its first window; but for a lane in the
    -- midst of a window.
    select
      place.tick,
      place.seq,
      coalesce(next.era, since.era) as era,
      since.snap::text as since,
      next.id as next,
      coalesce(next.snap::text, pg_current_snapshot()::text) as upto,
      coalesce(place.from_at, '-infinity') as from_at,
      array_agg(subscription.name order by subscription.name, place.lane) as names,
      array_agg(place.lane order by subscription.name, place.lane) as lanes
    from {schema}.subscription
    join {schema}.place on place.subscription = subscription.name
    join {schema}.tick as since on since.id = place.tick
    left join lateral (
      select id, era, snap
      from {schema}.tick
      where id > place.tick and (place.seq > 0 or since.era <> (select max(era) from {schema}.event_era))
      order by id
      limit 1
    ) as next on true
    where
      not here
      and subscription.mode = 'batch' and subscription.paused_at is null and place.lane < subscription.lanes
      and coalesce(place.retry_at <= now(), true)
      and not exists (select from {schema}.job where unique_key = 'pgqueue.lane:' || place.lane || ':' || place.subscription)
      -- An event that is alone is tried first.
      and not exists (select from {schema}.job where id = place.held_by)
    group by place.tick, place.seq, place.from_at, since.era, since.snap::text, next.id, next.era, next.snap::text
    order by place.tick, place.seq
  loop
    continue when front.next is null and front.since = front.upto;
    since := front.since;
    upto := front.upto;
    -- The job reads the events itself, from the place of its lane on.
    with page as materialized (
      select * from {schema}.event_page(since, upto, front.era, front.seq, front.from_at, size, few, false)
    ),
    read as (
      select count(*)::integer as events, max(seq) as last from page
    ),
    waiter as (
      select
        subscription.name, subscription.types, subscription.lanes, subscription.batch, subscription.task, subscription.queue,
        subscription.priority, subscription.max_attempts, subscription.timeout_s, subscription.headers,
        coalesce(subscription.batch_wait_s, 0) * interval '1 second' as batch_wait, place.lane
      from unnest(front.names, front.lanes) as named (name, lane)
      join {schema}.subscription on subscription.name = named.name
      join {schema}.place on
        place.subscription = named.name and place.lane = named.lane and place.tick = front.tick and place.seq = front.seq
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
        wanted.events >= waiter.batch or read.events = size or wanted.first_at + waiter.batch_wait <= clock_timestamp() as is_due,
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
      where gathered.is_due
      on conflict (unique_key) where unique_key is not null do nothing
      returning queue
    ),
    latest as (
      select id, snap from {schema}.tick where id > front.tick order by id desc limit 1
    ),
    ticked as (
      insert into {schema}.tick (era, snap)
      select front.era, upto
      from read
      where
        events > 0 and front.next is null and (select count(*) from gathered) < (select count(*) from waiter)
        and not exists (select from latest where snap::text = front.upto)
      returning id
    ),
    moved as (
      update {schema}.place
      set
        tick = case when read.events < size
          then coalesce(front.next, (select id from ticked), (select id from latest)) else place.tick end,
        seq = case when read.events < size then 0 else read.last end,
        number = place.number + read.events,
        moved_at = now()
      from read, waiter
      where
        place.subscription = waiter.name and place.lane = waiter.lane and place.tick = front.tick and place.seq = front.seq
        and not exists (select from gathered where gathered.name = waiter.name and gathered.lane = waiter.lane)
        and (read.events > 0 or front.next is not null or exists (select from latest))
      returning place.lane
    ),
    bell as (
      select pg_notify('{channel}', queue) from (select distinct queue from made) as due where pg_notification_queue_usage() < 0.5
    )
    select
      (select count(*) from made), (select count(*) from moved), read.events = size or front.next is not null,
      (select min(gathered.due_s) from gathered where not gathered.is_due), (select count(*) from bell)
    into jobs, moved, more, due_s
    from read;
    names := '{}';
    events := jobs + moved;
    is_full := false;
    more := more and moved > 0;
    return next;
  end loop;
end
$$;
