-- What keeps dead rows from being cleaned: old transactions, prepared ones, replication slots; the oldest first.
select who, cure, seconds
from (
  select
    format('session %%s of %%s (%%s, %%s)', pid, coalesce(usename, '?'), coalesce(nullif(application_name, ''), 'no name'), state),
    format('select pg_terminate_backend(%%s)', pid),
    extract(epoch from now() - xact_start)::float8
  from pg_stat_activity
  where
    pid <> pg_backend_pid() and xact_start < now() - %(older_s)s * interval '1 second'
    and (backend_xmin is not null or backend_xid is not null)
  union all
  select format('prepared transaction %%s of %%s', gid, owner), format('rollback prepared %%L', gid),
    extract(epoch from now() - prepared)::float8
  from pg_prepared_xacts
  where prepared < now() - %(older_s)s * interval '1 second'
  union all
  select format('replication slot %%s', slot_name), format('select pg_drop_replication_slot(%%L)', slot_name), null
  from pg_replication_slots
  where not active and (xmin is not null or catalog_xmin is not null)
) as holder (who, cure, seconds)
order by seconds desc nulls last
limit 10
