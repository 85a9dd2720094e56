-- Forget what was answered a month ago, and what no code has declared for a month.
with live as (
  select unnest(schedules) as fingerprint from {schema}.worker where state <> 'dead' and lease_until > now()
),
seen as (
  update {schema}.declared set seen_at = now()
  where fingerprint in (select fingerprint from live) and seen_at < now() - interval '1 day'
),
undeclared as (
  delete from {schema}.declared
  where seen_at < now() - interval '30 days' and fingerprint not in (select fingerprint from live)
),
answered as (
  delete from {schema}.fired where fired_at < now() - interval '30 days'
)
delete from {schema}.schedule where undeclared_at < now() - interval '30 days'
