-- The lanes of a subscription: where each is, and whether this reader may take it.
select
  place.lane,
  place.tick,
  place.seq,
  place.number,
  place.attempt,
  place.held_by = %(reader)s::uuid as mine,
  place.held_until is null or place.held_until < now() or place.held_by = %(reader)s::uuid as free,
  subscription.paused_at is null and (place.retry_at is null or place.retry_at <= now()) as due,
  place.from_at,
  subscription.types,
  subscription.lanes,
  subscription.mode
from {schema}.subscription
join {schema}.place on place.subscription = subscription.name
where subscription.name = %(subscription)s
order by place.lane
