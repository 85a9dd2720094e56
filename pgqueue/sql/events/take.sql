-- Take a lane for this reader, if it is still there, unless another's lease holds it. That other one is fenced from then on.
update {schema}.place
set held_by = %(reader)s::uuid, held_until = now() + %(lease_s)s * interval '1 second'
where
  subscription = %(subscription)s and lane = %(lane)s and tick = %(tick)s and seq = %(seq)s
  and (held_until is null or held_until < now() or held_by = %(reader)s::uuid)
returning lane
