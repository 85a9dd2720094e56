-- All subscriptions, and how far each is behind: events that wait, counted to a limit, and for how long the first has waited.
select
  subscription.name,
  subscription.mode,
  subscription.types,
  subscription.task,
  subscription.target,
  subscription.lanes::integer as lanes,
  subscription.paused_at is not null as paused,
  subscription.lost,
  -- Whether a worker that lives has its task.
  subscription.task is null or exists (
    select from {schema}.worker where worker.state <> 'dead' and subscription.task = any (worker.tasks)
  ) as known,
  extract(epoch from now() - subscription.declared_at)::float8 as declared_ago_s,
  coalesce(max(waiting.events), 0)::integer as behind,
  extract(epoch from clock_timestamp() - min(waiting.first_at))::float8 as behind_s,
  max(place.attempt)::integer as attempt,
  left(max(place.error), 500) as error,
  -- One whose event is still tried has not stopped.
  count(*) filter (
    where place.retry_at = 'infinity' and not exists (select from {schema}.job where id = place.held_by)
  )::integer as stopped,
  coalesce(array_agg(distinct place.held_by::text) filter (where place.held_until > now()), '{}') as readers
from {schema}.subscription
left join {schema}.place on place.subscription = subscription.name
left join {schema}.tick as since on since.id = place.tick
left join lateral (
  select count(*) as events, min(at) as first_at
  from (
    (
      select at
      from {schema}.event
      where
        xid = any (array(select pg_snapshot_xip(since.snap)))
        and era = since.era and seq > place.seq
        and {schema}.event_matches(type, subscription.types) and at >= coalesce(place.from_at, '-infinity')
      limit %(count_limit)s
    )
    union all
    (
      select at
      from {schema}.event
      where
        xid >= pg_snapshot_xmax(since.snap) and era = since.era and seq > place.seq
        and {schema}.event_matches(type, subscription.types) and at >= coalesce(place.from_at, '-infinity')
      limit %(count_limit)s
    )
    union all
    (
      select at
      from {schema}.event
      where
        era > since.era
        -- Else the whole log would be looked through for none.
        and since.era < (select max(era) from {schema}.event_era)
        and {schema}.event_matches(type, subscription.types) and at >= coalesce(place.from_at, '-infinity')
      limit %(count_limit)s
    )
  ) as waiting
) as waiting on true
group by subscription.name
order by subscription.name
