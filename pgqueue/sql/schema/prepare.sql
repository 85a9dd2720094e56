-- The schema and its list of migrations. Whoever may not make schemas can use one that was made for him.
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
