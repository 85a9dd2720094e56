-- Claim from a paused queue again, and wake the workers that serve it.
with resumed as (
  update {schema}.queue
  set paused_at = null, paused_by = null, resume_at = null
  where name = %(queue)s and paused_at is not null and coalesce(resume_at > now(), true)
  returning name
),
audited as (
  insert into {schema}.audit (action, queue)
  select 'resume', name from resumed
)
select name, case when pg_notification_queue_usage() < 0.5 then pg_notify('{channel}', name) end as bell
from resumed
