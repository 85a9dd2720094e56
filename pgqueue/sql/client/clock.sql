-- The database's clock: when a job is due and when it expires, whether it is due later, and whether soon enough to ring. The times
-- as text for COPY, which any DateStyle reads; and as the caller's connection may make of a time whatever it likes.
with due as (
  select
    coalesce(%(run_at)s::timestamptz, statement_timestamp())
    + coalesce(%(delay_s)s::float8, 0) * interval '1 second' as run_at,
    coalesce(
      %(expires_at)s::timestamptz, statement_timestamp() + %(expires_s)s::float8 * interval '1 second'
    ) as expires_at
)
select
  to_char(run_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US"+00"') as run_at,
  to_char(expires_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US"+00"') as expires_at,
  run_at > statement_timestamp() as later,
  -- As in insert.sql: a job due before the longest poll must be heard of now, or it would start late.
  run_at < statement_timestamp() + interval '10 seconds' as soon
from due
