-- Schedules: when which job is made, which due times were answered, and what the code of each worker declares.
-- works_with: 1

-- One row for each. Who makes the job of a due time moves next_run_at in the same transaction.
create table {schema}.schedule (
  name           text primary key,
  -- Five or six fields, or an interval that counts from anchor_at on.
  cron           text,
  every_s        float8,
  anchor_at      timestamptz not null default now(),
  tz             text not null default 'UTC',
  task           text not null,
  args           text not null default '[]',
  kwargs         text not null default '{}',
  -- JSON text: what the job's own row says besides.
  options        text not null default '{}',
  missed         text not null default 'once' check (missed in ('once', 'skip', 'all')),
  missed_most    integer not null default 100 check (missed_most between 1 and 1000),
  overlap        text not null default 'skip' check (overlap in ('skip', 'allow')),
  jitter_s       float8 not null default 0 check (jitter_s >= 0),
  created_at     timestamptz not null default now(),
  paused_at      timestamptz,
  -- Until when; null: until somebody resumes it.
  resume_at      timestamptz,
  -- code: as the workers' code declares it. person: as a command said; a deploy leaves it alone.
  source         text not null default 'code' check (source in ('code', 'person')),
  -- Of what the code declares; null: no code ever did.
  fingerprint    text,
  -- Since when no live worker declares it, and since when it is stopped for that.
  undeclared_at  timestamptz,
  stopped_at     timestamptz,
  -- Null: never again, or not while it is paused.
  next_run_at    timestamptz check (next_run_at > '1900-01-01 00:00Z' and next_run_at < '9000-01-01 00:00Z'),
  last_run_at    timestamptz,
  last_job       uuid,
  error          text,
  check ((cron is null) <> (every_s is null))
);

create index schedule_due on {schema}.schedule (next_run_at) where stopped_at is null;

-- One row for each due time that was answered: so a job is made once, although clocks go back or rows are edited.
create table {schema}.fired (
  schedule  text not null,
  due_at    timestamptz not null,
  fired_at  timestamptz not null default now(),
  job_id    uuid,
  -- Why no job was made.
  skipped   text,
  primary key (schedule, due_at)
);

create index fired_at on {schema}.fired (fired_at);

-- What code declares, or did. Of those that live workers declare, the one that was first seen last counts: so a worker with older
-- code that starts again during a deploy takes nothing back.
create table {schema}.declared (
  name           text not null,
  fingerprint    text not null,
  -- JSON text of its row.
  spec           text not null,
  first_seen_at  timestamptz not null default clock_timestamp(),
  seen_at        timestamptz not null default now(),
  primary key (name, fingerprint)
);

-- The fingerprints of its schedules; null: of a version that knows of none.
alter table {schema}.worker add column schedules text[];
