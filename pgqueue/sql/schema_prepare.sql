-- The schema and its list of migrations.
create schema if not exists {schema};
create table if not exists {schema}.migration (
  version     integer primary key,
  name        text not null,
  applied_at  timestamptz not null default now()
);
