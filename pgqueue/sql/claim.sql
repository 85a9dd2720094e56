-- Claim up to `limit` queued jobs: larger priority first, then in the order of becoming runnable.
-- The first job of each (queue, priority) that has work, by skip scan: the next priority of this queue, else the next queue.
-- Dead index entries before a first job are read here, once, and nowhere below.
with recursive head as (
  (
    select queue, priority, seq
    from {schema}.job
    where state = 'queued' and %(queues)s::text[] is null
    order by queue, priority desc, seq
    limit 1
  )
  union all
  -- A worker that names its queues looks up each; nothing follows on from them but their other priorities.
  select first.queue, first.priority, first.seq
  from unnest(%(queues)s::text[]) as named (queue)
  cross join lateral (
    select queue, priority, seq
    from {schema}.job
    where state = 'queued' and queue = named.queue
    order by priority desc, seq
    limit 1
  ) as first
  union all
  select following.queue, following.priority, following.seq
  from head
  cross join lateral (
    (
      select queue, priority, seq
      from {schema}.job
      where state = 'queued' and queue = head.queue and priority < head.priority
      order by priority desc, seq
      limit 1
    )
    union all
    (
      select queue, priority, seq
      from {schema}.job
      where state = 'queued' and queue > head.queue and %(queues)s::text[] is null
      order by queue, priority desc, seq
      limit 1
    )
    limit 1
  ) as following
),
pair as (
  select queue, priority, seq
  from head
  where not exists (select from {schema}.queue where name = head.queue and paused_at is not null)
)
update {schema}.job
set
  state = 'running',
  claim_token = claim_token + 1,
  attempt = attempt + 1,
  worker = %(worker)s,
  started_at = now()
-- By ctid: a row that moved between the lock and the update is not visible there and is left for the next claim.
where ctid = any (array(
  select ctid
  from (
    select
      candidate.ctid,
      -- What comes before it; a job of any size may be the only one.
      sum(candidate.bytes) over (rows between unbounded preceding and 1 preceding) as bytes_before
    from (select queue, priority, seq from pair order by priority desc, seq) as pair
    cross join lateral (
      select job.ctid, octet_length(job.args) + octet_length(job.kwargs) as bytes
      from {schema}.job
      where job.state = 'queued' and job.queue = pair.queue and job.priority = pair.priority and job.seq >= pair.seq
        -- Tasks this worker does not know stay queued for those who do.
        and job.task <> all (%(unknown)s::text[])
      order by job.seq
      limit %(limit)s
      for update skip locked
    ) as candidate
    -- A worker that was declared dead claims nothing more under that name.
    where exists (select from {schema}.worker where id = %(worker)s and state = 'alive')
    limit %(limit)s
  ) as wanted
  where coalesce(bytes_before, 0) < %(most_bytes)s
))
returning
  id::text, claim_token, task, args, kwargs, attempt, max_attempts, crashes, queue, priority, seq, timeout_s, headers,
  extract(epoch from now() - created_at)::float8, expires_at < now()
