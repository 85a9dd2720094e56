-- Leave what a reader holds to the one that comes next.
update {schema}.place
set held_by = null, held_until = null
where subscription = %(subscription)s and held_by = %(reader)s::uuid
