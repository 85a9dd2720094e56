-- Make a subscription, or bring one up to date: a new one gets the events from this snapshot on. Its ticks are locked before.
with declared as (
  insert into {schema}.subscription (
    name, mode, types, task, queue, priority, max_attempts, timeout_s, lanes, batch, batch_wait_s, on_poison, target, headers,
    declared_at
  )
  values (
    %(name)s, %(mode)s, %(types)s::text[], %(task)s, %(queue)s, %(priority)s, %(max_attempts)s, %(timeout_s)s, %(lanes)s,
    %(batch)s, %(batch_wait_s)s, %(on_poison)s, %(target)s, %(headers)s, case when %(in_code)s then now() end
  )
  on conflict (name) do update
    set
      mode = excluded.mode, types = excluded.types, task = excluded.task, queue = excluded.queue,
      priority = excluded.priority, max_attempts = excluded.max_attempts, timeout_s = excluded.timeout_s,
      lanes = excluded.lanes, batch = excluded.batch, batch_wait_s = excluded.batch_wait_s,
      on_poison = excluded.on_poison, target = excluded.target, headers = excluded.headers,
      declared_at = excluded.declared_at
  returning name
),
-- With another number of lanes an event is of another lane: all continue from where the slowest was, and number on from the highest.
-- So some come again, and none is skipped.
were as (
  select count(*) as lanes, max(number) as number from {schema}.place where subscription = %(name)s
),
slowest as (
  select tick, seq, from_at from {schema}.place where subscription = %(name)s order by tick, seq limit 1
),
left_over as (
  delete from {schema}.place where subscription = %(name)s and lane >= %(lanes)s
),
put_back as (
  update {schema}.place
  set tick = slowest.tick, seq = slowest.seq, from_at = slowest.from_at, number = were.number, held_by = null, held_until = null,
    suspects = null, skipped = null
  from slowest, were
  where place.subscription = %(name)s and place.lane < %(lanes)s and were.lanes <> %(lanes)s
),
missing as (
  select wanted.lane::smallint as lane
  from generate_series(0, %(lanes)s - 1) as wanted (lane)
  where not exists (select from {schema}.place where subscription = %(name)s and place.lane = wanted.lane)
),
-- The last tick will do if nothing has begun since it: those who stand at one place share what is read for them.
last as (
  select id
  from (select id, snap, xmin from {schema}.tick order by id desc limit 1) as newest
  where
    snap::text = pg_current_snapshot()::text
    -- Or made by this transaction, for another subscription.
    or xmin::text = mod(pg_current_xact_id()::text::bigint, 4294967296)::text
),
ticked as (
  insert into {schema}.tick (era, snap)
  select (select max(era) from {schema}.event_era), pg_current_snapshot()
  where
    exists (select from missing) and not exists (select from last) and not exists (select from slowest)
    and %(tick)s::bigint is null
  returning id
),
placed as (
  insert into {schema}.place (subscription, lane, tick, seq, from_at, number)
  select
    declared.name, missing.lane,
    coalesce(slowest.tick, %(tick)s::bigint, (select id from last), (select id from ticked)),
    coalesce(slowest.seq, %(seq)s), coalesce(slowest.from_at, %(from_at)s::timestamptz),
    -- A relay that is dropped and made again gives none of its numbers a second time: the bus would take the event for a repeat.
    coalesce(were.number, (extract(epoch from now()) * 1000000)::bigint)
  from declared cross join missing cross join were left join slowest on true
  returning lane
)
select (select count(*) from placed)::integer as lanes
