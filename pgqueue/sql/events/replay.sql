-- Put every lane of a subscription at a place, and forget what it lost. A reader that holds one is fenced: it is no longer where it was read.
with forgotten as (
  update {schema}.subscription set lost = 0 where name = %(name)s and lost > 0
)
update {schema}.place
set
  tick = %(tick)s, seq = %(seq)s, from_at = %(from_at)s::timestamptz, moved_at = now(), held_by = null, held_until = null,
  attempt = 0, retry_at = null, error = null, suspects = null, skipped = null
where subscription = %(name)s
returning lane
