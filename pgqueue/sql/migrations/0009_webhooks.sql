-- Endpoints of other parties that get a signed POST for each event they want.
-- works_with: 1

create table {schema}.webhook (
  name           text primary key,
  url            text not null,
  -- What everybody may see of the URL: the rest may hold a token.
  site           text not null generated always as (split_part(url, '/', 1) || '//' || split_part(split_part(url, '?', 1), '/', 3)) stored,
  types          text[] not null check (cardinality(types) > 0),
  -- The newest first. `env:NAME` names a variable of the workers that holds one.
  secrets        text[] not null check (cardinality(secrets) > 0),
  -- Until when deliveries are signed by the others too; null: always.
  old_until      timestamptz,
  allow_private  boolean not null default false,
  created_at     timestamptz not null default now(),
  -- Of one in code: when a worker last knew it. Null: made by a command.
  declared_at    timestamptz,
  disabled_at    timestamptz,
  why            text
);
