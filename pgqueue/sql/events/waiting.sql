-- Whether an event waits that no reader of jobs has passed; and this reader's mark is kept alive meanwhile.
with marked as (
  update {schema}.event_reader
  set until = now() + interval '2 minutes'
  where id = %(reader)s::uuid and until < now() + interval '1 minute'
)
select exists (
  select
  from {schema}.subscription
  join {schema}.place on place.subscription = subscription.name
  join {schema}.tick as since on since.id = place.tick
  where
    subscription.paused_at is null
    and (
      subscription.mode = 'job' and subscription.name <> all (%(held)s::text[])
      or subscription.mode = 'batch' and coalesce(place.retry_at <= now(), true)
      and not exists (select from {schema}.job where unique_key = 'pgqueue.lane:' || place.lane || ':' || place.subscription)
      and not exists (select from {schema}.job where id = place.held_by)
    )
    and (
      exists (select from {schema}.tick where id > place.tick)
      or exists (
        select
        from {schema}.event
        where
          event.xid = any (array(select pg_snapshot_xip(since.snap)))
          and pg_visible_in_snapshot(event.xid, pg_current_snapshot()) and event.era = since.era
      )
      or exists (
        select
        from {schema}.event
        where
          event.xid >= pg_snapshot_xmax(since.snap) and event.xid < pg_snapshot_xmax(pg_current_snapshot())
          and pg_visible_in_snapshot(event.xid, pg_current_snapshot()) and event.era = since.era
      )
    )
) as waiting
