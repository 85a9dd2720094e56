-- Claim up to `limit` queued jobs: larger priority first, then in the order of becoming runnable.
with recursive
-- The queues that have work, by skip scan; not run when the worker names its queues.
stocked as (
  (
    select queue
    from {schema}.job
    where state = 'queued' and %(queues)s::text[] is null
    order by queue
    limit 1
  )
  union all
  select following.queue
  from stocked
  cross join lateral (
    select queue
    from {schema}.job
    where state = 'queued' and queue > stocked.queue
    order by queue
    limit 1
  ) as following
),
served as (
  select queue from stocked
  union all
  select queue from unnest(%(queues)s::text[]) as named (queue)
),
-- The first job of each (queue, priority) that has work, again by skip scan.
pair as (
  select served.queue, head.priority, head.seq
  from served
  cross join lateral (
    select priority, seq
    from {schema}.job
    where state = 'queued' and queue = served.queue
    order by priority desc, seq
    limit 1
  ) as head
  where not exists (select from {schema}.queue where name = served.queue and paused_at is not null)
  union all
  select pair.queue, head.priority, head.seq
  from pair
  cross join lateral (
    select priority, seq
    from {schema}.job
    where state = 'queued' and queue = pair.queue and priority < pair.priority
    order by priority desc, seq
    limit 1
  ) as head
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
    from (select queue, priority from pair order by priority desc, seq) as pair
    cross join lateral (
      select job.ctid, octet_length(job.args) + octet_length(job.kwargs) as bytes
      from {schema}.job
      where job.state = 'queued' and job.queue = pair.queue and job.priority = pair.priority
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
