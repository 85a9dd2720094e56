-- What lies in our schema and is not ours, whether a migration that is still to come needs that name, and whether a role is called
-- like the schema: that is where its tables go by PostgreSQL's default.
with ours (name, since) as (
  values
    ('migration', 1), ('job_state', 1), ('job_seq', 1), ('job', 1), ('history', 1), ('attempt', 1), ('worker', 1), ('queue', 1),
    ('throughput', 1), ('awaited', 1), ('audit', 1), ('failures', 1), ('jobs', 1), ('uuid7', 1), ('enqueue', 1), ('tidy', 1),
    ('event_seq', 5), ('event', 5), ('event_era', 5), ('tick', 5), ('subscription', 5), ('place', 5), ('event_reader', 5),
    ('event_cluster', 5), ('event_era_is_over', 5), ('begin_era', 5), ('event_matches', 5),
    ('publish', 5), ('tidy_events', 5), ('notice', 7), ('trigger', 8), ('webhook', 9),
    ('event_page', 10), ('dispatch_events', 10), ('schedule', 11), ('fired', 11), ('declared', 11),
    ('gate', 12), ('pace', 12), ('period', 13), ('breaker', 16)
),
found (catalog, id, name) as (
  select tableoid, oid, relname
  from pg_catalog.pg_class
  where relnamespace = to_regnamespace('{schema}') and relkind in ('r', 'p', 'v', 'm', 'f', 'S', 'c') and not relispartition
  union all
  select tableoid, oid, typname
  from pg_catalog.pg_type
  where typnamespace = to_regnamespace('{schema}') and typtype in ('d', 'e', 'r')
  union all
  -- The functions of triggers that we wrote are called after our schema.
  select tableoid, oid, proname
  from pg_catalog.pg_proc
  where
    pronamespace = to_regnamespace('{schema}')
    and not (prorettype = 'trigger'::regtype and starts_with(proname, replace('{schema}', '"', '') || '_'))
  union all
  select tableoid, oid, extname
  from pg_catalog.pg_extension
  where extnamespace = to_regnamespace('{schema}')
)
select distinct
  name::text,
  exists (select from ours where ours.name = found.name and since > %(version)s) as is_needed,
  to_regrole('{schema}') is not null as is_by_default
from found
where
  not exists (select from ours where ours.name = found.name and since <= %(version)s)
  -- A sequence goes with the column that it numbers, and whatever an extension brought with the extension.
  and not exists (
    select
    from pg_catalog.pg_depend
    where classid = catalog and objid = id and (deptype = 'e' or deptype in ('a', 'i') and refobjsubid > 0)
  )
order by 1
