-- Leave a lane where it is until its reader, or another one, tries again; fenced like move.sql.
update {schema}.place
set
  attempt = attempt + 1,
  error = %(error)s,
  retry_at = coalesce(now() + %(retry_s)s::float8 * interval '1 second', 'infinity'),
  held_by = null,
  held_until = null
where
  subscription = %(subscription)s and lane = %(lane)s and held_by = %(reader)s::uuid and tick = %(tick)s and seq = %(seq)s
returning attempt
