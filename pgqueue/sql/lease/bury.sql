-- Declare workers dead, if they still look it under the row lock, and end their sessions: a frozen one may hold locks.
with gone as (
  select id
  from {schema}.worker
  where
    id = any (%(workers)s::uuid[]) and state <> 'dead'
    and (lease_until < now() or suspect_since < now() - %(grace_s)s * interval '1 second')
  order by id
  for update skip locked
),
buried as (
  update {schema}.worker
  set state = 'dead', sleeping = false
  from gone
  where worker.id = gone.id
  returning worker.id, worker.name
)
select
  id::text,
  name,
  (
    select count(pg_terminate_backend(pid))
    from pg_stat_activity
    where application_name = 'pgqueue:' || buried.id::text and usename = current_user
  ) as sessions
from buried
