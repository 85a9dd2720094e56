-- Dead rows that wait for vacuum, in the tables that change all the time.
select
  relname::text as name, n_live_tup::bigint as live, n_dead_tup::bigint as dead,
  extract(epoch from now() - greatest(last_autovacuum, last_vacuum))::float8 as vacuumed_s
from pg_stat_user_tables
where
  relid in ('{schema}.job'::regclass, '{schema}.worker'::regclass, '{schema}.queue'::regclass)
  and n_dead_tup > %(more_than)s
order by n_dead_tup desc
