-- A lane, as the job reads it that works on it.
select
  place.lane,
  place.tick,
  place.seq,
  place.number,
  place.attempt,
  true as mine,
  true as free,
  subscription.paused_at is null and subscription.mode = 'batch' as due,
  place.from_at,
  subscription.types,
  subscription.lanes,
  subscription.mode,
  subscription.batch,
  place.suspects,
  coalesce(place.skipped, '{}') as skipped
from {schema}.subscription
join {schema}.place on place.subscription = subscription.name
where subscription.name = %(subscription)s and place.lane = %(lane)s and place.lane < subscription.lanes
