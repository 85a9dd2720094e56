-- Move a lane on after events that are done with; fenced: only by the reader that took it, and from where it read. keep: it
-- holds the lane for further events.
update {schema}.place
set
  tick = %(to_tick)s,
  seq = %(to_seq)s,
  number = number + %(events)s,
  moved_at = now(),
  held_by = case when %(keep)s then held_by end,
  held_until = case when %(keep)s then now() + %(lease_s)s * interval '1 second' end,
  attempt = 0,
  error = null,
  retry_at = null
where
  subscription = %(subscription)s and lane = %(lane)s and held_by = %(reader)s::uuid and tick = %(tick)s and seq = %(seq)s
returning number
