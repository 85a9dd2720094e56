-- Move a lane past one event that fails alone, and make its job that of this event: the lane waits for the end of that, or has
-- come to it. Fenced as batch_failed.sql.
with alone as (
  update {schema}.place
  set
    tick = %(to_tick)s,
    seq = %(to_seq)s,
    number = number + %(events)s,
    moved_at = now(),
    attempt = 0,
    suspects = %(suspects)s,
    skipped = %(skipped)s::bigint[],
    error = %(error)s,
    held_by = case when not %(ended)s or subscription.on_poison = 'stop' then %(id)s::uuid end,
    retry_at = case when subscription.on_poison = 'stop' then 'infinity'::timestamptz end
  from {schema}.subscription
  where
    subscription.name = place.subscription and place.subscription = %(subscription)s and place.lane = %(lane)s
    and place.tick = %(tick)s and place.seq = %(seq)s
    and exists (
      select
      from {schema}.job
      where id = %(id)s and claim_token = %(token)s and coalesce(state = 'running' and worker = %(worker)s, false)
    )
  returning place.lane
),
made as (
  update {schema}.job
  set args = %(args)s, unique_key = null, attempt = 1
  where id = %(id)s and exists (select from alone)
),
bell as (
  -- For what came meanwhile: no job was made for it while this one ran.
  select count(pg_notify('{events_channel}', ''))
  from (select from alone where %(ended)s limit 1) as changed
  where pg_notification_queue_usage() < 0.5 and exists (
    select from {schema}.event_reader where asleep and until > statement_timestamp()
  )
)
select lane, (select count from bell) as bells from alone
