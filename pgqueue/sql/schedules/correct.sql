-- Note that a due time made no job of its own: another has its unique key.
update {schema}.fired
set job_id = %(job_id)s, skipped = %(skipped)s
where schedule = %(schedule)s and due_at = %(due_at)s
