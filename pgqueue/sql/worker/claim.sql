-- Claim up to `limit` queued jobs from the pairs of queue and priority that are known to have work, in the order given, each
-- beyond its cursor, the last seq that was taken there: dead index entries are not read again.
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
    from (
      select queue, priority, cursor
      from unnest(%(queues)s::text[], %(priorities)s::smallint[], %(cursors)s::bigint[])
        with ordinality as known (queue, priority, cursor, place)
      where not exists (select from {schema}.queue where name = known.queue and paused_at is not null and coalesce(resume_at > now(), true))
      order by place
    ) as pair
    cross join lateral (
      select job.ctid, octet_length(job.args) + octet_length(job.kwargs) as bytes
      from {schema}.job
      where job.state = 'queued' and job.queue = pair.queue and job.priority = pair.priority and job.seq > pair.cursor
        -- Tasks this worker does not know stay queued for those that do.
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
  id::text, claim_token as token, task, args, kwargs, attempt, max_attempts, crashes, queue, priority, seq,
  timeout_s::text::float8, headers,
  extract(epoch from now() - created_at)::float8 as age_s, expires_at < now() as expired, gates, gate <= cardinality(gates) as astray
