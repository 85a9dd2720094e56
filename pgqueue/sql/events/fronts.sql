-- Where the subscriptions stand that get a job for each event: one row for each place, with the snapshots of the window after it.
-- No next tick: that of this statement is the next.
select
  place.tick,
  place.seq,
  coalesce(next.era, since.era) as era,
  since.snap::text as since,
  next.id as next,
  coalesce(next.snap::text, pg_current_snapshot()::text) as upto,
  place.from_at,
  array_agg(subscription.name order by subscription.name) as names
from {schema}.subscription
join {schema}.place on place.subscription = subscription.name
join {schema}.tick as since on since.id = place.tick
left join lateral (
  select id, era, snap from {schema}.tick where id > place.tick order by id limit 1
) as next on true
where subscription.mode = 'job' and subscription.paused_at is null and subscription.name <> all (%(held)s::text[])
group by place.tick, place.seq, place.from_at, since.era, since.snap::text, next.id, next.era, next.snap::text
order by place.tick, place.seq
