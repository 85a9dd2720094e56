-- Claim from a paused queue again, and wake the workers that serve it. A pause that is over by itself is taken off too, as older
-- workers do not know that it is over; but it does not count as one.
with was as (
  select name, coalesce(resume_at > now(), true) as still
  from {schema}.queue
  where name = %(queue)s and paused_at is not null
  for update
),
resumed as (
  update {schema}.queue
  set paused_at = null, paused_by = null, resume_at = null
  from was
  where queue.name = was.name
  returning queue.name, was.still
),
audited as (
  insert into {schema}.audit (action, queue)
  select 'resume', name from resumed where still
)
select name, case when pg_notification_queue_usage() < 0.5 then pg_notify('{channel}', name) end as bell
from resumed
where still
