-- The events that were put aside of a subscription, newest first: among the last jobs that ended dead or cancelled.
with seen as (
  select id, finished_at, state, task, headers, attempt, args, error
  from {schema}.history_ended
  order by finished_at desc
  limit %(window)s
)
select seen.id::text as job, seen.state::text, seen.finished_at as at, seen.attempt, seen.args, seen.error
from {schema}.subscription
join seen on
  case
    when subscription.mode = 'job'
    then seen.state = 'dead' and seen.task = subscription.task and seen.headers is not distinct from subscription.headers
    -- Not the jobs of its lanes, which have no arguments.
    else seen.args <> '[]' and strpos(seen.headers, '"pgqueue.lane": [' || to_json(subscription.name)::text || ',') > 0
  end
where subscription.name = %(name)s and (%(jobs)s::uuid[] is null or seen.id = any (%(jobs)s::uuid[]))
order by seen.finished_at desc
limit %(limit)s
