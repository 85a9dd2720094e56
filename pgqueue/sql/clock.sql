-- The database's clock, with a delay and an expiry counted from it.
select
  coalesce(%(run_at)s::timestamptz, now()) + coalesce(%(delay_s)s::float8, 0) * interval '1 second',
  coalesce(%(expires_at)s::timestamptz, now() + %(expires_s)s::float8 * interval '1 second'),
  coalesce(%(run_at)s::timestamptz, now()) + coalesce(%(delay_s)s::float8, 0) * interval '1 second' > now()
