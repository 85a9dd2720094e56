-- Run an ended job again from its first attempt, or a scheduled one now. Returns the state it was in; the token only grows.
with live as (
  update {schema}.job
  set
    state = case when gates is null or gate > cardinality(gates) then 'queued' else 'waiting' end::{schema}.job_state,
    -- One that holds no place begins at the first gate again. One that kept its turn waits at the second: sent back, it would let those
    -- pass that are behind it in its line; the sweep finds it.
    gate = case when gates is null or gate > 1 then gate else 0 end,
    run_at = statement_timestamp(),
    seq = nextval('{schema}.job_seq')
  where id = %(id)s and state = 'scheduled'
  returning id, queue, task, 'scheduled'::{schema}.job_state as was
),
ended as (
  select * from {schema}.history where id = %(id)s for update
),
revived as (
  insert into {schema}.job (
    id, claim_token, created_at, state, max_attempts, timeout_s, priority, queue, task, args, kwargs, headers, unique_key,
    gates, gate, seq
  )
  select
    id, claim_token, created_at, case when gates is null then 'queued' else 'waiting' end::{schema}.job_state, max_attempts,
    timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, case when gates is not null then 0 end,
    -- Where the line stops behind it, it is the first again.
    case
      when gates is not null and exists (
        select
        from {schema}.gate as rule
        join {schema}.gate as own on own.name = gates[1]
        where rule.name = split_part(gates[1], '=', 1) and rule.halts and own.closed_at is not null
      ) then 0
      else nextval('{schema}.job_seq')
    end
  from ended
  -- Another live job has its unique key, or it was revived already: seen here and not before, or two could race.
  on conflict do nothing
  returning id, queue, task
),
forgotten as (
  delete from {schema}.history
  using revived
  where
    -- Both: as a join alone it read all of history before that was analyzed.
    history.id = %(id)s and history.id = revived.id
),
due as (
  select live.id, queue, task, was from live
  union all
  select revived.id, revived.queue, revived.task, ended.state from revived join ended on ended.id = revived.id
),
audited as (
  insert into {schema}.audit (action, job_id, queue, task, state)
  select 'retry', id, queue, task, was from due
),
bell as (
  select count(pg_notify('{channel}', queue)) from due where pg_notification_queue_usage() < 0.5
)
select was::text, (select count from bell) as bells
from due
