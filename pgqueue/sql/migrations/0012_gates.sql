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
