-- Jobs, their history, and the rows by which workers, callers and people know of each other.

create type {schema}.job_state as enum (
  'waiting', 'scheduled', 'queued', 'running', 'succeeded', 'dead', 'cancelled'
);

-- Orders the queue: drawn when a job becomes runnable (insert, promotion, retry), never an identity.
create sequence {schema}.job_seq;

-- Live jobs only; what has ended moves to history, so this table stays as small as the backlog.
create table {schema}.job (
  id                   uuid primary key,
  seq                  bigint not null default nextval('{schema}.job_seq'),
  claim_token          bigint not null default 0,
  run_at               timestamptz not null default now(),
  created_at           timestamptz not null default now(),
  started_at           timestamptz,
  expires_at           timestamptz,
  cancel_requested_at  timestamptz,
  worker               uuid,
  state                {schema}.job_state not null default 'queued',
  attempt              integer not null default 0,
  crashes              integer not null default 0,
  max_attempts         integer,
  timeout_s            real,
  progress             real,
  priority             smallint not null default 0,
  queue                text not null default 'default',
  task                 text not null,
  args                 text not null default '[]',
  kwargs               text not null default '{}',
  headers              text,
  unique_key           text,
  progress_note        text,
  cancel_reason        text,
  -- A time that Python cannot read would stop every list of jobs, and an infinite one the workers' heartbeats.
  constraint job_run_at_readable check (run_at > '1900-01-01 00:00Z' and run_at < '9000-01-01 00:00Z'),
  -- Who may only insert cannot name a worker, so he cannot leave a job that runs for ever: nobody could cancel or purge it.
  constraint job_running_has_worker check (state <> 'running' or worker is not null)
) with (
  fillfactor = 80,
  -- A queue is all churn: clean after a few thousand dead rows whatever the size of the backlog.
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_insert_scale_factor = 0.2,
  autovacuum_analyze_threshold = 10000,
  autovacuum_analyze_scale_factor = 0.05,
  autovacuum_vacuum_cost_delay = 0
);

-- The claim reads this one and no other; seq must stand in no second index (the planner would be tempted by it).
create index job_claim on {schema}.job (queue, priority desc, seq) where state = 'queued';
create index job_due on {schema}.job (run_at) where state = 'scheduled';
create index job_running on {schema}.job (worker) where state = 'running';
create unique index job_unique on {schema}.job (unique_key) where unique_key is not null;

-- Ended jobs: one branch per retention, one partition per day, so that forgetting is a drop and never a delete.
create table {schema}.history (
  finished_at    timestamptz not null default now(),
  id             uuid not null,
  claim_token    bigint not null,
  run_at         timestamptz not null,
  created_at     timestamptz not null,
  started_at     timestamptz,
  expires_at     timestamptz,
  worker         uuid,
  state          {schema}.job_state not null,
  attempt        integer not null,
  crashes        integer not null,
  max_attempts   integer,
  timeout_s      real,
  priority       smallint not null,
  queue          text not null,
  task           text not null,
  args           text not null,
  kwargs         text not null,
  headers        text,
  unique_key     text,
  result         text,
  error          text
) partition by list (state);

create index history_id on {schema}.history (id);

create table {schema}.history_succeeded partition of {schema}.history
  for values in ('succeeded') partition by range (finished_at);
create table {schema}.history_ended partition of {schema}.history
  for values in ('dead', 'cancelled') partition by range (finished_at);

-- The newest end is asked for by people ("latest failures"), and only there.
create index history_ended_finished_at on {schema}.history_ended (finished_at);

-- A safety net for the day when nobody made the day's partition: nothing is refused for want of one.
create table {schema}.history_succeeded_rest partition of {schema}.history_succeeded default;
create table {schema}.history_ended_rest partition of {schema}.history_ended default;

-- One row per failed attempt: when, where, why.
create table {schema}.attempt (
  failed_at    timestamptz not null default now(),
  job_id       uuid not null,
  claim_token  bigint not null,
  started_at   timestamptz,
  attempt      integer not null,
  task         text not null,
  queue        text not null,
  worker_name  text,
  cause        text not null,
  error        text not null,
  traceback    text
) partition by range (failed_at);

create index attempt_job_id on {schema}.attempt (job_id);
create index attempt_failed_at on {schema}.attempt (failed_at);
create table {schema}.attempt_rest partition of {schema}.attempt default;

-- One row per supervisor: its lease. Jobs have no foreign key to it, rescue is a predicate.
create table {schema}.worker (
  id             uuid primary key,
  started_at     timestamptz not null default now(),
  heartbeat_at   timestamptz not null default now(),
  lease_until    timestamptz not null,
  suspect_since  timestamptz,
  lock_key       integer,
  backend_pid    integer,
  pid            integer not null,
  concurrency    integer not null,
  sleeping       boolean not null default false,
  state          text not null default 'alive' check (state in ('alive', 'draining', 'dead')),
  name           text not null,
  version        text not null,
  app            text not null,
  queues         text[],
  tasks          text[] not null
) with (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

-- Settings of a queue; a queue without a row has the defaults.
create table {schema}.queue (
  name       text primary key,
  paused_at  timestamptz,
  paused_by  text
);

-- Counters of ten seconds each, written with the heartbeat: what stats draws without counting history.
create table {schema}.throughput (
  at         timestamptz not null,
  worker     uuid not null,
  succeeded  integer not null,
  failed     integer not null,
  dead       integer not null,
  cancelled  integer not null,
  primary key (at, worker)
) with (fillfactor = 50);

-- Somebody waits for this job's end: only then does a finish ring.
create table {schema}.awaited (
  job_id  uuid primary key,
  until   timestamptz not null
);

-- Who cancelled, retried, purged, paused or resumed, and when: one row per statement. `at` and `who` are never given, so that
-- whoever may only insert the other columns signs with his own login.
create table {schema}.audit (
  at      timestamptz not null default now(),
  who     text not null default session_user,
  action  text not null,
  job_id  uuid,
  queue   text,
  task    text,
  state   {schema}.job_state,
  jobs    bigint not null default 1
);

create index audit_at on {schema}.audit (at);
create index audit_job_id on {schema}.audit (job_id);

-- Failed attempts for everybody: an error's text may quote what it was given, so who may not read it sees its kind alone.
create view {schema}.failures as
select
  job_id, failed_at, attempt, task, queue, worker_name, cause,
  case when has_column_privilege('{schema}.attempt', 'error', 'select') then left(error, 1000)
    else coalesce(
      substring(
        left(error, 200) || case when length(error) <= 200 then ':' else '' end
        from '^[[:alpha:]_][[:alnum:]_.<>]*(?=:)'
      ),
      cause
    )
  end as error
from {schema}.attempt;

-- Everything a person may ask about a job, alive or ended.
create view {schema}.jobs as
select
  id, state, queue, priority, task, args, kwargs, attempt, max_attempts, crashes, created_at, run_at, started_at,
  null::timestamptz as finished_at, expires_at, timeout_s, unique_key, headers, worker, claim_token,
  progress, progress_note, cancel_requested_at, null::text as result, cancel_reason as error
from {schema}.job
union all
select
  id, state, queue, priority, task, args, kwargs, attempt, max_attempts, crashes, created_at, run_at, started_at,
  finished_at, expires_at, timeout_s, unique_key, headers, worker, claim_token,
  null::real, null::text, null::timestamptz, result, error
from {schema}.history;

-- RFC 9562 version 7: 48 bits of milliseconds, then random. Made here only for callers that are not Python.
create function {schema}.uuid7() returns uuid
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select encode(
    set_bit(set_bit(
      overlay(uuid_send(gen_random_uuid())
        placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6),
      52, 1), 53, 1),
    'hex')::uuid
$$;

-- The public way in for psql, triggers and other languages: the job exists exactly if the caller commits.
-- A live job with the same unique key is left alone and its id returned.
create function {schema}.enqueue(
  task          text,
  args          jsonb default '[]',
  kwargs        jsonb default '{}',
  queue         text default 'default',
  priority      integer default 0,
  delay         interval default null,
  run_at        timestamptz default null,
  max_attempts  integer default null,
  timeout_s     real default null,
  expires_at    timestamptz default null,
  unique_key    text default null,
  headers       jsonb default null
) returns uuid
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with due as (
    select coalesce(enqueue.run_at, now()) + coalesce(enqueue.delay, interval '0') as run_at
  ), inserted as (
    insert into {schema}.job as j (
      id, state, run_at, queue, priority, task, args, kwargs, max_attempts, timeout_s, expires_at, unique_key, headers
    )
    select
      {schema}.uuid7(),
      case when due.run_at > now() then 'scheduled' else 'queued' end::{schema}.job_state,
      due.run_at, enqueue.queue, enqueue.priority::smallint, enqueue.task, enqueue.args::text, enqueue.kwargs::text,
      enqueue.max_attempts, enqueue.timeout_s, enqueue.expires_at,
      -- As the library does: an index row could not hold a long one.
      case when length(enqueue.unique_key) > 200
        then encode(sha256(convert_to(enqueue.unique_key, 'UTF8')), 'hex') else enqueue.unique_key end,
      enqueue.headers::text
    from due
    on conflict (unique_key) where unique_key is not null do update set unique_key = excluded.unique_key
    returning j.id, j.queue, j.run_at
  ), rung as (
    select pg_notify('{channel}', inserted.queue)
    from inserted
    where inserted.run_at < now() + interval '10 seconds' and pg_notification_queue_usage() < 0.5
  )
  select inserted.id from inserted left join rung on true
$$;

-- Partitions are made a week ahead, so that nobody notices a weekend without workers, and dropped past their retention.
-- A function, because the workers that call it need not own the tables; so it takes nothing but numbers.
create function {schema}.tidy(keep_succeeded_days integer, keep_dead_days integer) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
-- Rather try again later than let every finish queue up behind a waiting DDL statement.
set lock_timeout = '500ms'
as $$
declare
  today  date := (now() at time zone 'utc')::date;
  kept   record;
  day    date;
  child  text;
  first  text;
  next   text;
begin
  for kept in
    select *
    from (values
      ('history_succeeded', 'finished_at', keep_succeeded_days),
      ('history_ended', 'finished_at', keep_dead_days),
      ('attempt', 'failed_at', keep_dead_days)
    ) as kept (parent, by_column, days)
  loop
    for day in select today + ahead from generate_series(0, 6) as ahead loop
      child := kept.parent || to_char(day, '_YYYYMMDD');
      first := to_char(day, 'YYYY-MM-DD 00:00:00+00');
      next := to_char(day + 1, 'YYYY-MM-DD 00:00:00+00');
      if to_regclass('{schema}.' || child) is null then
        execute format('create table {schema}.%I (like {schema}.%I including defaults)', child, kept.parent);
        -- Rows that came before their partition did lie in the rest; they move over, or it could not be attached.
        execute format(
          'with late as (delete from {schema}.%1$I where %2$I >= %3$L and %2$I < %4$L returning *)'
          ' insert into {schema}.%5$I select * from late',
          kept.parent || '_rest', kept.by_column, first, next, child
        );
        execute format(
          'alter table {schema}.%I attach partition {schema}.%I for values from (%L) to (%L)', kept.parent, child, first, next
        );
      end if;
    end loop;
    for child in
      select relname
      from pg_inherits
      join pg_class on pg_class.oid = inhrelid
      where
        inhparent = ('{schema}.' || kept.parent)::regclass
        and relname <> kept.parent || '_rest'
        and relname < kept.parent || to_char(today - greatest(kept.days, 1), '_YYYYMMDD')
      order by relname
    loop
      execute format('drop table {schema}.%I', child);
    end loop;
  end loop;
  delete from {schema}.audit where at < now() - interval '1 year';
end
$$;
