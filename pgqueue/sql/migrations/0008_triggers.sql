-- Which triggers on users' tables make jobs, events and notifications.
-- works_with: 1

create table {schema}.trigger (
  name         text primary key,
  made_at      timestamptz not null default now(),
  -- Of one in code: when `trigger sync` last knew it. Null: made by a command.
  declared_at  timestamptz,
  -- As SQL names it: with its schema, and quoted where it must be.
  table_name   text not null,
  keys         text[] not null,
  -- What was asked for, and what the server then had: for each event its function and its trigger, as digests. Both are JSON.
  spec         text not null,
  state        text not null
);
