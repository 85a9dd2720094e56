-- All that decides when a live job runs: itself, its queue, the workers that could take it, who holds it, its last failure.
with target as (
  select * from {schema}.job where id = %(id)s
),
-- The workers whose lease is valid, and which of them would claim this job.
live as (
  select
    worker.*,
    worker.queues is null or target.queue = any (worker.queues) as serves,
    target.task = any (worker.tasks) as knows
  from {schema}.worker
  cross join target
  where worker.state <> 'dead' and worker.lease_until > now()
),
-- What holds the places of those that would claim it. A job that was claimed within the last second may not have begun.
full_worker as (
  select live.name, live.concurrency, held.*
  from live
  cross join lateral (
    select
      count(*) as jobs,
      count(distinct task) as tasks,
      mode() within group (order by task) as task,
      extract(epoch from now() - max(started_at))::float8 as held_s
    from (
      select task, started_at
      from {schema}.job
      where job.state = 'running' and job.worker = live.id
      order by job.worker
      limit 1000
    ) as running
    where started_at < now() - interval '1 second'
  ) as held
  where serves and knows and live.state = 'alive' and held.jobs >= live.concurrency
  order by held_s desc
  limit 3
),
-- The gate at which it waits, and who is past it.
gate_of as (
  select
    at.gate,
    coalesce(own.name, rule.name) is not null as known,
    coalesce(own.slots, rule.slots) as slots,
    coalesce(own.every_s, rule.every_s) as every_s,
    (
      select count(*)
      from (
        select from {schema}.job where gates[1] = at.gate and job.gate > 1
        union all
        select from {schema}.job where gates[2] = at.gate and job.gate > 2
        limit %(count_limit)s
      ) as past
    ) as past,
    (
      select array_agg(id::text)
      from (
        (select id from {schema}.job where gates[1] = at.gate and job.gate > 1 limit 3)
        union all
        (select id from {schema}.job where gates[2] = at.gate and job.gate > 2 limit 3)
        limit 3
      ) as past
    ) as holders,
    (
      select count(*)
      from (
        select
        from {schema}.job as other
        where
          other.state = 'waiting' and other.gate is not null and other.gate in (0, 1, 2)
          and other.gates[greatest(other.gate, 1::smallint)] = at.gate
          and (other.priority > target.priority or other.priority = target.priority and other.seq < target.seq)
        limit %(count_limit)s
      ) as before
    ) as earlier,
    shut.closed_at, shut.closed_until, shut.closed_by, coalesce(shut.closed_why, own.closed_why) as closed_why,
    own.half_open_at is not null and shut.closed_at is null as half_open, own.trial,
    coalesce(rule.shares is not null, false) as fair
  from target
  cross join lateral (select target.gates[greatest(target.gate, 1::smallint)] as gate) as at
  left join {schema}.gate as own on own.name = at.gate
  left join {schema}.gate as rule on rule.name = split_part(at.gate, '=', 1)
  left join lateral (
    select *
    from (
      values
        (own.closed_at, own.closed_until, own.closed_by, own.closed_why),
        (rule.closed_at, rule.closed_until, rule.closed_by, rule.closed_why)
    ) as one (closed_at, closed_until, closed_by, closed_why)
    where one.closed_at is not null and coalesce(one.closed_until > now(), true)
    limit 1
  ) as shut on true
  where target.state = 'waiting' and target.gate is not null
),
failure as (
  select attempt.*
  from {schema}.attempt
  join target on target.id = attempt.job_id
  order by attempt.failed_at desc
  limit 1
)
select
  target.state::text,
  target.queue,
  target.task,
  target.priority,
  target.attempt,
  target.crashes,
  extract(epoch from target.run_at - now())::float8 as due_s,
  extract(epoch from target.expires_at - now())::float8 as expires_s,
  extract(epoch from now() - target.started_at)::float8 as running_s,
  target.cancel_requested_at is not null as cancel_requested,
  target.progress::text::float8,
  target.progress_note,
  case
    when coalesce(queue.resume_at > now(), true) then extract(epoch from now() - queue.paused_at)::float8
  end as paused_s,
  queue.paused_by,
  extract(epoch from queue.resume_at - now())::float8 as resume_s,
  (select count(*) from live)::integer as workers,
  (select count(*) from live where serves)::integer as serving,
  (select count(*) from live where serves and knows)::integer as knowing,
  (select count(*) from live where serves and knows and state = 'alive')::integer as claiming,
  (select coalesce(sum(concurrency), 0) from live where serves and knows and state = 'alive')::integer as places,
  (
    select count(*)::integer
    from (
      select
      from {schema}.job as other
      where other.state = 'queued' and other.queue = target.queue and other.priority > target.priority
      limit %(count_limit)s
    ) as larger
  ) as larger,
  (
    select count(*)::integer
    from (
      select
      from {schema}.job as other
      where
        other.state = 'queued' and other.queue = target.queue and other.priority = target.priority
        and other.seq < target.seq
      limit %(count_limit)s
    ) as earlier
  ) as earlier,
  holder.name as holder,
  holder.state as holder_state,
  extract(epoch from holder.lease_until - now())::float8 as lease_s,
  failure.cause,
  failure.error,
  extract(epoch from now() - failure.failed_at)::float8 as failed_s,
  (
    select jsonb_agg(jsonb_build_array(name, concurrency, jobs, tasks, task, held_s) order by held_s desc)::text
    from full_worker
  ) as full,
  -- The token is that of its last claim: where that one has failed, it was not released.
  case
    when failure.claim_token is distinct from target.claim_token
    then extract(epoch from now() - target.handed_back_at)::float8
  end as handed_back_s,
  (
    select jsonb_build_array(
      gate, known, slots, every_s, past, holders, earlier, extract(epoch from now() - closed_at),
      extract(epoch from closed_until - now()), closed_by, closed_why, half_open, trial, fair
    )::text
    from gate_of
  ) as at_gate
from target
left join {schema}.queue on queue.name = target.queue
left join {schema}.worker as holder on holder.id = target.worker and target.state = 'running'
left join failure on true
