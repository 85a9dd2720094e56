-- Let jobs through the gates that lock_gates.sql has locked in this transaction, as many as there is room for. It must be a statement of its
-- own: its snapshot is taken while the locks are held, so it sees whatever was let through before.
with rule as (
  select
    held.gate,
    case when coalesce(own.name, rule.name) is null or closed.until > statement_timestamp() then 0
      when coalesce(own.slots, rule.slots) is null and rule.shares is not null
      then coalesce(own.weight, (rule.shares::json ->> substr(held.gate, strpos(held.gate, '=') + 1))::integer, 1) * places.window
      else coalesce(own.slots, rule.slots) end as slots,
    rule.shares is not null as fair,
    coalesce(own.every_s, rule.every_s) as every_s,
    case when own.every_s is not null then own.burst else rule.burst end as burst,
    closed.until,
    coalesce(rule.keeps, false) as keeps,
    -- Its breaker has closed it: the time is over, and one job at a time is tried.
    own.half_open_at is not null and coalesce(closed.until <= statement_timestamp(), true) as half_open,
    own.half_open_at is not null and closed.until > statement_timestamp() as tripped
  from unnest(current_setting('pgqueue.gates')::text[]) as held (gate)
  left join {schema}.gate as own on own.name = held.gate
  left join {schema}.gate as rule on rule.name = split_part(held.gate, '=', 1)
  -- Twice the places of the live workers that serve the queue of those who wait, so that a key which is alone keeps all busy; and more
  -- where jobs are so short that a place runs several of a key in a tenth of a second. Read where a gate is fair, and only there.
  left join lateral (
    select
      least(1000000, ceil(
        2 * greatest(1, max(%(flow)s::float8 / other.concurrency) filter (where other.id = %(worker)s))
          * greatest(1, sum(other.concurrency))
      ))::integer as window
    from {schema}.worker as other
    where
      rule.shares is not null and other.state = 'alive' and other.lease_until > statement_timestamp()
      and (other.queues is null or other.queues @> array[(
        select queue
        from {schema}.job
        where
          state = 'waiting' and gate is not null and gate = any ('{0,1,2}')
          and gates[greatest(gate, 1::smallint)] = held.gate
        limit 1
      )])
  ) as places on rule.shares is not null
  cross join lateral (
    select max(coalesce(shut.closed_until, 'infinity')) as until
    from (
      values (own.closed_at, own.closed_until, own.half_open_at), (rule.closed_at, rule.closed_until, rule.half_open_at)
    ) as shut (closed_at, closed_until, half_open_at)
    -- Should the clock have been set back since a breaker closed it, the time counts as over.
    where shut.closed_at is not null and (shut.half_open_at is null or shut.closed_at <= statement_timestamp())
  ) as closed
),
-- What came of the job that was tried. The row of the gate is ours until the commit; where a person holds it, nothing is tried.
tried as materialized (
  select
    state.name as gate,
    state.trial,
    statement_timestamp() + coalesce(state.break_rest_s, 60) * interval '1 second' as closed_until,
    case
      when state.trial is null then 'next'
      -- One that no worker takes must not hold up all others without end.
      when job.past and (
        job.state = 'running' or statement_timestamp() between state.trial_at
          and state.trial_at + coalesce(state.break_rest_s, 60) * interval '1 second'
      ) then 'runs'
      when job.past then 'next'
      -- A failed attempt counts; one that was put off, given back or parked does not.
      when job.attempt > state.trial_attempt or ended.state = 'dead' then 'failed'
      when job.id is not null or ended.state = 'cancelled' then 'next'
      -- Of a success that keeps nothing there is no more to see than that the job is gone.
      else 'succeeded'
    end as became
  from rule
  cross join lateral (
    select name, trial, trial_at, trial_attempt, break_rest_s
    from {schema}.gate
    where name = rule.gate and half_open_at is not null
    for update skip locked
  ) as state
  left join lateral (
    select id, job.state, attempt, coalesce(job.gate > array_position(gates, state.name), false) as past
    from {schema}.job
    where id = state.trial
  ) as job on true
  left join lateral (
    select history.state from {schema}.history where history.id = state.trial and job.id is null limit 1
  ) as ended on true
  where rule.half_open
),
room as (
  select
    rule.gate, rule.slots, rule.fair, rule.every_s, rule.burst, rule.keeps,
    coalesce((select closed_until from tried where tried.gate = rule.gate and became = 'failed'), rule.until) as until,
    pace.tat,
    greatest(0, least(
      %(most)s,
      case when rule.slots is not null then rule.slots - (
        select count(*)
        from (
          select from {schema}.job where gates[1] = rule.gate and gate > 1
          union all
          select from {schema}.job where gates[2] = rule.gate and gate > 2
          limit rule.slots
        ) as past
      ) end,
      case when rule.every_s is not null then
        floor(rule.burst - extract(epoch from pace.tat - statement_timestamp())::float8 / rule.every_s + 1e-9)
      end,
      case
        when rule.half_open and not exists (select from tried where tried.gate = rule.gate and became = 'succeeded')
          then (select count(*) from tried where tried.gate = rule.gate and became = 'next')
      end
    ))::bigint as free
  from rule
  cross join lateral (
    -- Never in the past, and never further ahead than a full burst, should the clock have been set back. least() passes over
    -- nulls: a rate that was never used would be used up.
    select greatest(statement_timestamp(), least(
      coalesce((select tat from {schema}.pace where pace.gate = rule.gate), statement_timestamp()),
      statement_timestamp() + rule.every_s * rule.burst * interval '1 second'
    )) as tat
  ) as pace
),
-- Those that wait, in the order of the queue. Each of the three takes as many as there is room for, as none knows of the others.
chosen as materialized (
  select room.gate, candidate.id, room.fair
  from room
  cross join lateral (
    select id, priority, seq
    from (
      select *
      from (
        select id, priority, seq
        from {schema}.job
        where
          state = 'waiting' and gate is not null and gate = 0 and gates[greatest(gate, 1::smallint)] = room.gate
        order by priority desc, seq
        limit room.free
        for update skip locked
      ) as fresh
      union all
      select *
      from (
        select id, priority, seq
        from {schema}.job
        where
          state = 'waiting' and gate is not null and gate = 1 and gates[greatest(gate, 1::smallint)] = room.gate
        order by priority desc, seq
        limit room.free
        for update skip locked
      ) as at_first
      union all
      select *
      from (
        select id, priority, seq
        from {schema}.job
        where
          state = 'waiting' and gate is not null and gate = 2 and gates[greatest(gate, 1::smallint)] = room.gate
        order by priority desc, seq
        limit room.free
        for update skip locked
      ) as at_second
    ) as waiting
    order by priority desc, seq
    limit room.free
  ) as candidate
  where
    room.free > 0
    -- Where order is kept nobody passes one whose row is locked, as by a cancel that may be rolled back.
    and not (room.keeps and exists (
      select
      from {schema}.job as ahead
      where
        ahead.state = 'waiting' and ahead.gate is not null and ahead.gate = any ('{0,1,2}')
        and ahead.gates[greatest(ahead.gate, 1::smallint)] = room.gate
        and (ahead.priority > candidate.priority or ahead.priority = candidate.priority and ahead.seq < candidate.seq)
        and ahead.id <> candidate.id
    ))
),
admitted as (
  update {schema}.job
  set
    gate = greatest(job.gate, 1) + 1,
    state = case when greatest(job.gate, 1) = cardinality(job.gates) then 'queued' else 'waiting' end::{schema}.job_state,
    -- At the next gate it keeps its place among all others, but for one whose turn it was: that goes to the end there too.
    seq = case when chosen.fair or greatest(job.gate, 1) = cardinality(job.gates) then nextval('{schema}.job_seq') else job.seq end
  from chosen
  where job.id = any (array[chosen.id])  -- see steady_plans.sql
  returning job.id, job.queue, job.gates[job.gate] as waits_at, job.gates[job.gate - 1] as passed, job.attempt
),
-- What the breakers of these gates know now.
judged as (
  update {schema}.gate
  set
    closed_at = case tried.became when 'failed' then statement_timestamp() when 'next' then gate.closed_at end,
    closed_until = case tried.became when 'failed' then tried.closed_until when 'next' then gate.closed_until end,
    closed_by = case when tried.became <> 'succeeded' then gate.closed_by end,
    closed_why = case tried.became when 'failed' then 'its trial failed, job ' || tried.trial::text when 'next' then gate.closed_why end,
    half_open_at = case tried.became when 'failed' then tried.closed_until when 'next' then gate.half_open_at end,
    break_from = case tried.became when 'succeeded' then statement_timestamp() else gate.break_from end,
    trial = let_in.id,
    trial_at = case when let_in.id is not null then statement_timestamp() end,
    trial_attempt = let_in.attempt
  from tried
  left join lateral (
    select id, attempt from admitted where passed = tried.gate and tried.became = 'next' limit 1
  ) as let_in on true
  where
    gate.name = any (array[tried.gate])
    and (tried.became in ('failed', 'succeeded') or tried.became = 'next' and (let_in.id is not null or gate.trial is not null))
),
-- Those that were looked at and have to wait.
parked as (
  update {schema}.job
  set gate = 1
  from (
    select looked.id
    from rule
    cross join lateral (
      select id
      from {schema}.job
      where
        state = 'waiting' and gate is not null and gate = 0 and gates[greatest(gate, 1::smallint)] = rule.gate
        and id not in (select id from chosen)
      limit 1000
      for update skip locked
    ) as looked
  ) as left_over
  where job.id = any (array[left_over.id])
),
-- Joined to nothing: with hash joins off two lists of a thousand would be compared a million times.
passed as (
  select gate, count(*) from chosen group by gate
),
paced as (
  insert into {schema}.pace as kept (gate, tat)
  select room.gate, room.tat + passed.count * room.every_s * interval '1 second'
  from passed
  cross join lateral (select * from room where room.gate = passed.gate and room.every_s is not null limit 1) as room
  where exists (select from room where room.every_s is not null)
  on conflict (gate) do update set tat = excluded.tat
),
-- When the next one may pass, where that is a matter of time, or of a lock on its row.
next as (
  select
    room.gate,
    case when room.every_s is null and room.until is null then 0.1 else extract(epoch from greatest(
      case when room.until < 'infinity' then room.until end,
      room.tat + (coalesce((select count from passed where passed.gate = room.gate), 0) - room.burst + 1)
        * room.every_s * interval '1 second'
    ) - statement_timestamp()) end::float8 as due_s
  from room
  where
    room.every_s is not null or room.until > statement_timestamp()
    or room.keeps and room.free > 0 and not exists (select from passed where passed.gate = room.gate) and exists (
      select
      from {schema}.job
      where
        state = 'waiting' and gate is not null and gate = any ('{0,1,2}')
        and gates[greatest(gate, 1::smallint)] = room.gate
    )
),
bell as (
  select count(pg_notify('{channel}', queue))
  from (select distinct queue from admitted where waits_at is null) as due
  where
    -- Those that take the place of a job that has ended here start here: to ring at each end of a job would wake all others in vain.
    (
      (select count(*) from admitted where waits_at is null) > %(spare)s
      or not exists (
        select from {schema}.worker where id = %(worker)s and (worker.queues is null or due.queue = any (worker.queues))
      )
    )
    and pg_notification_queue_usage() < 0.5 and exists (
      select
      from {schema}.worker
      where sleeping and state = 'alive' and id <> %(worker)s
        and (worker.queues is null or due.queue = any (worker.queues))
    )
)
select
  (select count(*) from admitted where waits_at is null)::integer as queued,
  array(select distinct waits_at from admitted where waits_at is not null) as onward,
  array(select gate from passed where count >= %(most)s) as again,
  array(select gate from next where due_s > 0 order by gate) as paced,
  array(select ceil(due_s * 1000)::bigint from next where due_s > 0 order by gate) as due_ms,
  (select count from bell) as bells,
  array(select gate from tried where became = 'succeeded') as reopened,
  array(select gate from tried where became = 'failed') as reclosed,
  array(select gate from rule where tripped) as tripped,
  -- Those that had let jobs through which nobody has claimed yet.
  array(
    select gate
    from rule
    where
      tripped and exists (
        select from {schema}.job where gates[1] = rule.gate and job.gate > 1 and state in ('queued', 'waiting')
        union all
        select from {schema}.job where gates[2] = rule.gate and job.gate > 2 and state in ('queued', 'waiting')
      )
  ) as recall
