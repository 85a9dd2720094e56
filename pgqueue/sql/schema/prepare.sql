-- The schema and its list of migrations. A role that may not create schemas can use one that was created for it.
do $$
begin
  if to_regnamespace('{schema}') is null then
    create schema {schema};
  end if;
end
$$;

create table if not exists {schema}.migration (
  version     integer primary key,
  name        text not null,
  applied_at  timestamptz not null default now()
);
