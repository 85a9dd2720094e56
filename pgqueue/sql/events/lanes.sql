-- Where the lanes of batches stand that have no job: one row for each place, with the snapshots of what comes after it. All that
-- is there by now counts, and not only its first window; but for a lane in the midst of a window.
select
  place.tick,
  place.seq,
  coalesce(next.era, since.era) as era,
  since.snap::text as since,
  next.id as next,
  coalesce(next.snap::text, pg_current_snapshot()::text) as upto,
  place.from_at,
  array_agg(subscription.name order by subscription.name, place.lane) as names,
  array_agg(place.lane order by subscription.name, place.lane) as lanes
from {schema}.subscription
join {schema}.place on place.subscription = subscription.name
join {schema}.tick as since on since.id = place.tick
left join lateral (
  select id, era, snap
  from {schema}.tick
  where id > place.tick and (place.seq > 0 or since.era <> (select max(era) from {schema}.event_era))
  order by id
  limit 1
) as next on true
where
  subscription.mode = 'batch' and subscription.paused_at is null and place.lane < subscription.lanes
  and coalesce(place.retry_at <= now(), true)
  and not exists (select from {schema}.job where unique_key = 'pgqueue.lane:' || place.lane || ':' || place.subscription)
  -- An event that is alone is tried first.
  and not exists (select from {schema}.job where id = place.held_by)
group by place.tick, place.seq, place.from_at, since.era, since.snap::text, next.id, next.era, next.snap::text
order by place.tick, place.seq
