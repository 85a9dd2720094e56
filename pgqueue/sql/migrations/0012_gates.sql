-- Gates: how many jobs of a task, a queue or a key may be under way at once, and how fast they follow each other.
-- works_with: 1

-- A rule (`task:shop.charge`, `queue:money`, `tenant`) or one key of it (`tenant=42`), whose row says what differs for that key. Where
-- there is no row for the rule nor for the key, nobody is let through. In the collation "C" all keys of a rule lie side by side.
create table {schema}.gate (
  name          text collate "C" primary key,
  -- How many may be past it at once; null: any number, or for a key as its rule says.
  slots         integer check (slots >= 0),
  -- Seconds from one to the next, and how many may follow each other at once.
  every_s       float8 check (every_s > 0),
  burst         integer not null default 1 check (burst > 0),
  -- A job holds its place through failed attempts, until it has ended: strict order.
  keeps         boolean not null default false,
  -- A job that is dead closes the gate behind it.
  halts         boolean not null default false,
  -- Its jobs name a key of it, and none the rule alone.
  keyed         boolean not null default false,
  -- Nobody passes until closed_until (null: until it is opened again), whatever the limits are.
  closed_at     timestamptz,
  closed_until  timestamptz,
  closed_by     text,
  closed_why    text,
  -- Of a person's row the workers change nothing when they start.
  source        text not null default 'code' check (source in ('code', 'person')),
  -- Of one in code: what it said, and when a worker last knew it.
  fingerprint   text,
  declared_at   timestamptz
);

-- A look at the heads of the queue reads these too: the rules, without the rows of keys.
create index gate_rule on {schema}.gate (name) where strpos(name, '=') = 0;

-- Where a rate stands: when the next one would be in step. Written under the gate's lock alone.
create table {schema}.pace (
  gate  text collate "C" primary key,
  tat   timestamptz not null
) with (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);

-- Null for a job without limits. gate: 0 while nobody has looked at it, n while it waits at the nth of its gates; it is past all those
-- before, whatever its state is.
alter table {schema}.job add column gates text[] collate "C", add column gate smallint;
alter table {schema}.history add column gates text[] collate "C";

-- Those that wait, gate by gate; those that nobody has looked at come first.
create index job_waits on {schema}.job (gate, (gates[greatest(gate, 1::smallint)]), priority desc, seq)
  where state = 'waiting' and gate is not null;
-- Those that are past the first, and past the second.
create index job_past_1 on {schema}.job ((gates[1])) where gate > 1;
create index job_past_2 on {schema}.job ((gates[2])) where gate > 2;

-- As before. key: the gate that the job has to pass, as in `tenant=42`; a worker adds those that its task or queue asks for.
drop function {schema}.enqueue;
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
  headers       jsonb default null,
  key           text default null
) returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- The arguments are called as the columns are: alone, a name is the column, and `enqueue.name` is the argument.
#variable_conflict use_column
declare
  due     timestamptz := coalesce(enqueue.run_at, statement_timestamp()) + coalesce(enqueue.delay, interval '0');
  found   record;
begin
  insert into {schema}.job as j (
    id, state, run_at, queue, priority, task, args, kwargs, max_attempts, timeout_s, expires_at, unique_key, headers,
    gates, gate
  )
  values (
    {schema}.uuid7(),
    case when due > statement_timestamp() then 'scheduled' when enqueue.key is not null then 'waiting' else 'queued' end::{schema}.job_state,
    due, enqueue.queue, enqueue.priority::smallint, enqueue.task, enqueue.args::text, enqueue.kwargs::text,
    enqueue.max_attempts, enqueue.timeout_s, enqueue.expires_at,
    -- As the library does: an index row could not hold a long one.
    case when length(enqueue.unique_key) > 200
      then encode(sha256(convert_to(enqueue.unique_key, 'UTF8')), 'hex') else enqueue.unique_key end,
    enqueue.headers::text,
    case
      -- The same for the key of a gate, which is what comes after the rule.
      when length(enqueue.key) - strpos(enqueue.key, '=') > 200 and strpos(enqueue.key, '=') > 0 then array[
        left(enqueue.key, strpos(enqueue.key, '='))
          || encode(sha256(convert_to(substr(enqueue.key, strpos(enqueue.key, '=') + 1), 'UTF8')), 'hex')
      ]
      when enqueue.key is not null then array[enqueue.key]
    end,
    case when enqueue.key is not null then 0 end
  )
  on conflict (unique_key) where unique_key is not null do update set unique_key = excluded.unique_key
  returning j.id, j.queue, j.run_at into found;
  if found.run_at < statement_timestamp() + interval '10 seconds' and pg_notification_queue_usage() < 0.5 then
    perform pg_notify('{channel}', found.queue);
  end if;
  return found.id;
end
$$;
