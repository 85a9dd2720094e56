-- Names that we need and somebody else has already taken in the schema.
select relname::text
from pg_catalog.pg_class
where
  relnamespace = to_regnamespace('{schema}')
  and (
    relname = any (array[
      'migration', 'job_seq', 'job', 'job_claim', 'job_due', 'job_running', 'job_unique', 'worker', 'queue', 'throughput',
      'awaited', 'audit', 'failures', 'jobs'
    ])
    or relname ~ '^(history(_succeeded|_ended)?|attempt)(_rest|_[0-9]{8}|_id|_job_id|_(finished|failed)_at)?$'
  )
union
select typname::text
from pg_catalog.pg_type
where typnamespace = to_regnamespace('{schema}') and typname = 'job_state'
union
select proname::text
from pg_catalog.pg_proc
where pronamespace = to_regnamespace('{schema}') and proname = any (array['uuid7', 'enqueue', 'tidy'])
order by 1
