-- Here and now in the log, for who begins to read it or reads up to here.
select
  (select max(era) from {schema}.event_era)::integer as era,
  extract(epoch from clock_timestamp())::bigint as at,
  pg_current_snapshot()::text as snap
