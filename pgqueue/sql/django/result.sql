-- One job, alive or ended, with its failed attempts from first to last: what Django calls a task result.
select
  job.state::text, job.task, job.queue, job.priority, job.args, job.kwargs,
  job.created_at, job.run_at, job.started_at, job.finished_at,
  -- The name is gone a day after the worker has ended.
  coalesce(worker.name, job.worker::text) as worker,
  job.result, job.error, failed.*
from {schema}.jobs as job
left join {schema}.worker on worker.id = job.worker
cross join lateral (
  select
    coalesce(array_agg(attempt.worker_name order by attempt.failed_at), array[]::text[]) as workers,
    coalesce(array_agg(attempt.started_at order by attempt.failed_at), array[]::timestamptz[]) as starts,
    coalesce(array_agg(attempt.cause order by attempt.failed_at), array[]::text[]) as causes,
    coalesce(array_agg(attempt.error order by attempt.failed_at), array[]::text[]) as errors,
    coalesce(array_agg(attempt.traceback order by attempt.failed_at), array[]::text[]) as tracebacks
  from {schema}.attempt
  where attempt.job_id = job.id
) as failed
where job.id = %(id)s
