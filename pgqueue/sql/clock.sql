-- The database's clock: when a job is due and when it expires, whether it is due later, and whether soon enough to ring.
with due as (
  select coalesce(%(run_at)s::timestamptz, now()) + coalesce(%(delay_s)s::float8, 0) * interval '1 second' as run_at
)
select
  run_at,
  coalesce(%(expires_at)s::timestamptz, now() + %(expires_s)s::float8 * interval '1 second'),
  run_at > now(),
  -- As in insert.sql: a job due before the longest poll must be heard of now, or it would start late.
  run_at < now() + interval '10 seconds'
from due
