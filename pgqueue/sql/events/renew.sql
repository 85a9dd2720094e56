-- Hold a lane for another lease, if it is still this reader's.
update {schema}.place
set held_until = now() + %(lease_s)s * interval '1 second'
where subscription = %(subscription)s and lane = %(lane)s and held_by = %(reader)s::uuid
returning lane
