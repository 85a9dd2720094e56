-- Whether the schema and its list of migrations are there.
select to_regclass('{schema}.migration') is not null
