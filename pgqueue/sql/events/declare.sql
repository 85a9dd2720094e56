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
missing as (
  select wanted.lane::smallint as lane
  from generate_series(0, %(lanes)s - 1) as wanted (lane)
  where not exists (select from {schema}.place where subscription = %(name)s and place.lane = wanted.lane)
),
-- The last tick will do if nothing has begun since it: those who stand at one place share what is read for them.
last as (
  select id
  from (select id, snap from {schema}.tick order by id desc limit 1) as newest
  where snap::text = pg_current_snapshot()::text
),
ticked as (
  insert into {schema}.tick (era, snap)
  select (select max(era) from {schema}.event_era), pg_current_snapshot()
  where exists (select from missing) and not exists (select from last)
  returning id
),
placed as (
  insert into {schema}.place (subscription, lane, tick)
  select declared.name, missing.lane, coalesce((select id from last), (select id from ticked)) from declared, missing
  returning lane
)
select (select count(*) from placed)::integer as lanes
