-- Whether the log of events still has to begin another era, as after a restore, and the sessions that hinder it.
select
  {schema}.event_era_is_over() as over,
  array(
    select pid || ' (' || coalesce(nullif(application_name, ''), 'without a name') || ')'
    from pg_stat_activity
    where
      pid <> pg_backend_pid()
      and pid in (
        select pid from pg_locks
        where
          relation = '{schema}.event'::regclass and granted
          and database = (select oid from pg_database where datname = current_database())
      )
    order by xact_start
  ) as users
