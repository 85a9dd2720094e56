-- Let lanes continue that have stopped at an event, and wake who reads them.
with started as (
  update {schema}.place
  set retry_at = null, error = null, held_by = null, attempt = 0
  where
    subscription = %(name)s and (%(lane)s::smallint is null or lane = %(lane)s::smallint)
    and retry_at = 'infinity'
    -- An event that is alone and still tried will itself let it continue.
    and not exists (select from {schema}.job where id = place.held_by)
  returning lane
),
bell as (
  select count(pg_notify('{events_channel}', ''))
  from (select from started limit 1) as changed
  where pg_notification_queue_usage() < 0.5
)
select lane::integer from started where (select count from bell) >= 0 order by lane
