-- Note what becomes of due times, each once: those that came back were not answered before.
insert into {schema}.fired (schedule, due_at, job_id, skipped)
select schedule, due_at, job_id, skipped
from json_to_recordset(%(rows)s::json) as row (schedule text, due_at timestamptz, job_id uuid, skipped text)
on conflict (schedule, due_at) do nothing
returning schedule, due_at
