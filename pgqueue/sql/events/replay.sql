-- Put every lane of a subscription at a place. A reader that holds one is fenced: it is no longer where it was read.
update {schema}.place
set
  tick = %(tick)s, seq = %(seq)s, from_at = %(from_at)s::timestamptz, moved_at = now(), held_by = null, held_until = null,
  attempt = 0, retry_at = null, error = null
where subscription = %(name)s
returning lane
