-- Move a lane past a batch, in the transaction that ends its job; only from where the job read it.
with moved as (
  update {schema}.place
  set
    tick = %(to_tick)s,
    seq = %(to_seq)s,
    number = number + %(events)s,
    moved_at = now(),
    attempt = 0,
    error = null,
    retry_at = null,
    held_by = null,
    suspects = %(suspects)s,
    skipped = %(skipped)s::bigint[]
  where subscription = %(subscription)s and lane = %(lane)s and tick = %(tick)s and seq = %(seq)s
  returning lane
),
bell as (
  -- For what came meanwhile: no job was made for it while this one ran.
  select count(pg_notify('{events_channel}', ''))
  from (select from moved limit 1) as changed
  where pg_notification_queue_usage() < 0.5 and exists (
    select from {schema}.event_reader where asleep and until > statement_timestamp()
  )
)
select lane, (select count from bell) as bells from moved
