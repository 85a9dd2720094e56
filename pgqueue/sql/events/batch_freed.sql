-- Let a lane continue whose event was alone in this job, now that it has ended; but for one that stops where an event is given up.
with freed as (
  update {schema}.place
  set
    held_by = case when subscription.on_poison = 'stop' and %(given_up)s then held_by end,
    retry_at = case when subscription.on_poison = 'stop' and %(given_up)s then retry_at end,
    error = case when %(given_up)s then error end
  from {schema}.subscription
  where
    subscription.name = place.subscription and place.subscription = %(subscription)s and place.lane = %(lane)s
    and place.held_by = %(id)s::uuid
  returning place.lane
),
bell as (
  -- For what came meanwhile: no job was made for it while this one ran.
  select count(pg_notify('{events_channel}', ''))
  from (select from freed limit 1) as changed
  where pg_notification_queue_usage() < 0.5 and exists (
    select from {schema}.event_reader where asleep and until > statement_timestamp()
  )
)
select lane, (select count from bell) as bells from freed
