-- Put every lane of a subscription at a place. Whoever holds one is fenced: where it was is no longer where it is.
update {schema}.place
set
  tick = %(tick)s, seq = %(seq)s, from_at = %(from_at)s::timestamptz, moved_at = now(), held_by = null, held_until = null,
  attempt = 0, retry_at = null, error = null
where subscription = %(name)s
returning lane
