-- Names that we need and that others have already taken in the schema.
select relname::text as name
from pg_catalog.pg_class
where
  relnamespace = to_regnamespace('{schema}')
  and relname = any (array[
    'migration', 'job_seq', 'job', 'job_claim', 'job_due', 'job_running', 'job_unique', 'history', 'history_id',
    'history_succeeded', 'history_succeeded_rest', 'history_ended', 'history_ended_finished_at', 'history_ended_rest',
    'attempt', 'attempt_job_id', 'attempt_failed_at', 'attempt_rest', 'worker', 'queue', 'throughput', 'awaited', 'audit',
    'audit_at', 'audit_job_id', 'failures', 'jobs', 'trigger'
  ])
union
select typname::text
from pg_catalog.pg_type
where typnamespace = to_regnamespace('{schema}') and typname = 'job_state'
union
select proname::text
from pg_catalog.pg_proc
where pronamespace = to_regnamespace('{schema}') and proname = any (array['uuid7', 'enqueue', 'tidy'])
order by 1
