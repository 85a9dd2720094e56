-- The log of events, who reads it, and how far each reader has come.
-- works_with: 1

-- The order of delivery within a window. One number at a time: an event that is published later has a larger one.
create sequence {schema}.event_seq;

-- Events are appended, and never changed or deleted one by one: a day is dropped as a whole.
create table {schema}.event (
  -- Not now(): a transaction may be older than the day's partition.
  at       timestamptz not null default clock_timestamp(),
  -- Of the whole transaction, also within a savepoint: whether a snapshot sees the event is asked by this.
  xid      xid8 not null default pg_current_xact_id(),
  seq      bigint not null default nextval('{schema}.event_seq'),
  id       uuid not null,
  -- Transaction ids mean nothing in a database that was restored from a dump: there another era begins.
  era      smallint not null default 1,
  type     text not null,
  -- Empty for none, as headers: a null would cost each row eight bytes more.
  key      text not null default '',
  payload  text not null default 'null',
  headers  text not null default ''
) partition by range (at);

-- No index by id or time: each would cost every event a fifth more WAL (BRIN too: its last range grows with each row). A tick
-- near the time is found instead.
create index event_place on {schema}.event (xid, seq);

create table {schema}.event_rest partition of {schema}.event default;
alter table {schema}.event_rest replica identity full;

-- Which eras there were: one for each time that the log came into a cluster whose transaction ids do not fit it.
create table {schema}.event_era (
  era                smallint primary key,
  began_at           timestamptz not null default now(),
  -- Of the cluster whose transaction ids it has; null where nobody had the right to ask.
  system_identifier  bigint
);

-- Snapshots in the order in which they were taken. A window of events lies between two of them: what the later sees and the
-- earlier does not. Nothing that commits late is skipped, and nothing waits for what commits late.
create table {schema}.tick (
  id    bigint generated always as identity primary key,
  at    timestamptz not null default clock_timestamp(),
  era   smallint not null,
  snap  pg_snapshot not null
);

-- Who gets which events. Mode: a job for each event (job), a job for a batch (batch), a loop in a program (pull), a bus (relay).
create table {schema}.subscription (
  name          text primary key,
  created_at    timestamptz not null default now(),
  -- Of a name in code: when a worker last knew it. Null: made by a command, so nobody's code has to know it.
  declared_at   timestamptz,
  paused_at     timestamptz,
  lanes         smallint not null default 1 check (lanes between 1 and 256),
  batch         integer,
  batch_wait_s  real,
  max_attempts  integer,
  timeout_s     real,
  priority      smallint not null default 0,
  lost          bigint not null default 0,
  mode          text not null check (mode in ('job', 'batch', 'pull', 'relay')),
  types         text[] not null check (cardinality(types) > 0),
  queue         text not null default 'default',
  task          text,
  target        text,
  on_poison     text not null default 'skip' check (on_poison in ('skip', 'stop')),
  headers       text
) with (fillfactor = 70);

-- How far a lane of a subscription has come: all up to the tick is done, and of the window after it all up to seq.
create table {schema}.place (
  subscription  text not null references {schema}.subscription on delete cascade,
  lane          smallint not null,
  tick          bigint not null,
  seq           bigint not null default 0,
  -- Events so far: a number for each, which grows in the order of delivery.
  -- From the time of its beginning on: a relay that is made anew gives none again.
  number        bigint not null default (extract(epoch from clock_timestamp()) * 1000000)::bigint,
  from_at       timestamptz,
  moved_at      timestamptz not null default now(),
  held_until    timestamptz,
  retry_at      timestamptz,
  -- A reader; of batches the job of an event that is alone, for whose end the lane waits.
  held_by       uuid,
  attempt       integer not null default 0,
  -- Of batches: this many events from here on were in one that failed; some of them, by their seq, are put aside already.
  suspects      integer,
  error         text,
  skipped       bigint[],
  primary key (subscription, lane)
) with (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

-- Who sleeps until an event comes: a publish rings only then.
create table {schema}.event_reader (
  id      uuid primary key,
  until   timestamptz not null,
  asleep  boolean not null default false
) with (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

-- The identifier of this cluster; null without the right to ask.
create function {schema}.event_cluster() returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A statement of its own: the right is asked for when a statement begins, whatever it then does.
  if has_function_privilege('pg_control_system()', 'execute') then
    return (select system_identifier from pg_control_system());
  end if;
  return null;
end
$$;

insert into {schema}.event_era (era, system_identifier) values (1, {schema}.event_cluster());

-- Whether the log came here by a dump of another cluster. Within one cluster its snapshots fit: there transactions of all databases
-- are numbered together.
create function {schema}.event_era_is_over() returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
select
  coalesce((select system_identifier from {schema}.event_era order by era desc limit 1) <> {schema}.event_cluster(), false)
  -- A copy of a cluster's files has its identifier too, and goes on counting by itself.
  or coalesce(
    (select pg_snapshot_xmax(snap) from {schema}.tick order by id desc limit 1)
    > pg_snapshot_xmax(pg_current_snapshot()),
    false
  )
$$;

-- Begin another era in a log that was restored from a dump, before anybody reads it. What was restored is read to its end by the
-- old snapshots: a closing tick sees all of it. What was published since is moved over, as those snapshots know nothing of it.
create function {schema}.begin_era(lock_class integer) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
-- Who publishes waits for as long as we wait for a lock.
set lock_timeout = '1s'
as $$
declare
  old      smallint;
  last     record;
  here     timestamptz;
  mine     xid8;
  opening  pg_snapshot;
begin
  if not {schema}.event_era_is_over() then
    return false;
  end if;
  perform pg_advisory_xact_lock(lock_class, hashtext('{schema}.dispatch'));
  perform pg_advisory_xact_lock(lock_class, hashtext('{schema}.tick'));
  begin
    lock table {schema}.event in access exclusive mode;
  exception when lock_not_available then
    raise exception 'the log of events comes from a dump, and its new era cannot begin while a transaction that uses it is open'
      using errcode = 'lock_not_available', hint = 'pgqueue doctor names it';
  end;
  if not {schema}.event_era_is_over() then
    return false; -- another session was at it
  end if;
  select max(era) into old from {schema}.event_era;
  mine := pg_current_xact_id();
  select at, snap into last from {schema}.tick order by id desc limit 1;
  if found then
    -- What a snapshot sees was written before it. What is younger, and yet seen, has its transaction id from here.
    select min(at) into here from {schema}.event where era = old and at > last.at and pg_visible_in_snapshot(xid, last.snap);
    update {schema}.event set era = old + 1, xid = mine where era = old and at >= here;
  end if;
  insert into {schema}.tick (era, snap) values (old, '9000000000000000000:9000000000000000000:');
  -- It does not see this transaction, although a session's own transaction is never among those under way.
  select
    (
      pg_snapshot_xmin(now) || ':' || pg_snapshot_xmax(now) || ':'
      || coalesce(
        (
          select string_agg(running::text, ',' order by running)
          from (
            select pg_snapshot_xip(now) as running
            union
            select mine where mine < pg_snapshot_xmax(now)
          ) as unseen
        ),
        ''
      )
    )::pg_snapshot
  into opening
  from pg_current_snapshot() as now;
  insert into {schema}.tick (era, snap) values (old + 1, opening);
  insert into {schema}.event_era (era, system_identifier) values (old + 1, {schema}.event_cluster());
  execute 'alter table {schema}.event alter era set default ' || old + 1;
  -- Those who held them are not here.
  update {schema}.place set held_by = null, held_until = null where held_by is not null;
  return true;
end
$$;

-- Whether a type is among these patterns: `user.created` itself, `user.*` with all that begins so, `*` with all.
create function {schema}.event_matches(type text, patterns text[]) returns boolean
language plpgsql immutable parallel safe
as $$
-- A query in it, or SQL as its language, would cost ten times as much.
declare
  pattern  text;
begin
  if type = any (patterns) or '*' = any (patterns) then
    return true;
  end if;
  foreach pattern in array patterns loop
    if right(pattern, 2) = '.*' and starts_with(type, left(pattern, -1)) then
      return true;
    end if;
  end loop;
  return false;
end
$$;

-- The public way in for psql, triggers and other languages: the event exists exactly if the caller commits. In PL/pgSQL, which keeps
-- its plans.
create function {schema}.publish(type text, payload jsonb default 'null', key text default null, headers jsonb default null)
returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  event  uuid := {schema}.uuid7();
begin
  if publish.type is null or publish.type = '' or position('*' in publish.type) > 0 then
    raise exception 'type % is none that can be published: write one as in order.paid', coalesce(publish.type, 'null')
      using errcode = 'invalid_parameter_value';
  end if;
  insert into {schema}.event (id, type, key, payload, headers)
  values (
    event, publish.type, coalesce(publish.key, ''), coalesce(publish.payload, 'null')::text, coalesce(publish.headers::text, '')
  );
  if pg_notification_queue_usage() < 0.5 then
    perform pg_notify('{events_channel}', '');
  end if;
  return event;
end
$$;

-- The days of the log: made ahead, and dropped when they are old and every reader has passed them, or when they are very old.
create function {schema}.tidy_events(keep_days integer, keep_days_at_most integer) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
declare
  today   date := (now() at time zone 'utc')::date;
  day     date;
  child   text;
  first   text;
  next    text;
  reader  record;
  behind  bigint;
  needed  boolean;
  too_old boolean;
begin
  for day in select today + ahead from generate_series(0, 3) as ahead loop
    child := 'event_' || to_char(day, 'YYYYMMDD');
    first := to_char(day, 'YYYY-MM-DD 00:00:00+00');
    next := to_char(day + 1, 'YYYY-MM-DD 00:00:00+00');
    if to_regclass('{schema}.' || child) is null then
      execute format('create table {schema}.%I (like {schema}.event including defaults)', child);
      execute format('alter table {schema}.%I replica identity full', child);
      -- Rows that came before their partition did lie in the rest; they move over, or it could not be attached.
      execute format(
        'with late as (delete from {schema}.event_rest where at >= %1$L and at < %2$L returning *)'
        ' insert into {schema}.%3$I select * from late',
        first, next, child
      );
      execute format('alter table {schema}.event attach partition {schema}.%I for values from (%L) to (%L)', child, first, next);
    end if;
  end loop;
  for child in
    select relname
    from pg_inherits
    join pg_class on pg_class.oid = inhrelid
    where
      inhparent = '{schema}.event'::regclass and relname <> 'event_rest'
      and relname < 'event_' || to_char(today - greatest(keep_days, 1), 'YYYYMMDD')
    order by relname
  loop
    needed := false;
    too_old := child < 'event_' || to_char(today - greatest(keep_days_at_most, keep_days, 1), 'YYYYMMDD');
    for reader in
      select subscription.name, subscription.types, tick.era, tick.snap
      from {schema}.subscription
      join {schema}.tick on tick.id = (select min(tick) from {schema}.place where place.subscription = subscription.name)
    loop
      -- Almost always the index says that the day's last transaction had ended before the snapshot was taken.
      execute format(
        'select count(*) from {schema}.%I as event'
        ' where (event.era > $1 or event.era = $1 and event.xid >= pg_snapshot_xmin($2)'
        ' and not pg_visible_in_snapshot(event.xid, $2)) and {schema}.event_matches(event.type, $3)',
        child
      ) into behind using reader.era, reader.snap, reader.types;
      if behind > 0 then
        needed := true;
        if too_old then
          update {schema}.subscription set lost = lost + behind where name = reader.name;
        end if;
      end if;
    end loop;
    if too_old or not needed then
      execute format('drop table {schema}.%I', child);
    end if;
  end loop;
  -- What every place has passed serves a replay alone: one tick in ten seconds will do, and none of a time that is not kept.
  delete from {schema}.tick
  where
    id < (select coalesce(min(tick), 9223372036854775807) from {schema}.place)
    and (
      at < now() - (greatest(keep_days_at_most, keep_days, 1) + 1) * interval '1 day'
      or id not in (
        select min(id) from {schema}.tick group by era, floor(extract(epoch from at) / 10)
        -- That which closes an era: without it the next one would begin before the end of this one.
        union all select max(id) from {schema}.tick group by era
      )
    );
  delete from {schema}.event_reader where until < now() - interval '1 hour';
end
$$;
