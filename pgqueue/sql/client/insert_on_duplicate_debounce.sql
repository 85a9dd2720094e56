on conflict (unique_key) where unique_key is not null do update
  set
    task = excluded.task, queue = excluded.queue, priority = excluded.priority, args = excluded.args,
    kwargs = excluded.kwargs, headers = excluded.headers, max_attempts = excluded.max_attempts,
    timeout_s = excluded.timeout_s, expires_at = excluded.expires_at, handed_back_at = null,
    -- With each call the quiet time starts over, until the first one has waited for the most. A job that is due by now keeps its place,
    -- and one that has run keeps its back-off: else a stream of calls would try it again and again.
    run_at = case
      when job.state = 'scheduled' and job.claim_token = 0
        then least(excluded.run_at, job.created_at + %(most_s)s::float8 * interval '1 second')
      else job.run_at
    end,
    state = case
      when job.state = 'scheduled' and job.claim_token = 0
        and least(excluded.run_at, job.created_at + %(most_s)s::float8 * interval '1 second') <= statement_timestamp()
        or job.state = 'queued'
        then case when excluded.gates is null then 'queued' else 'waiting' end::{schema}.job_state
      when job.state = 'waiting' and excluded.gates is null then 'queued'
      else job.state
    end,
    gates = excluded.gates,
    gate = excluded.gate,
    seq = case when job.state = 'scheduled' then excluded.seq else job.seq end
  where job.state in ('waiting', 'scheduled', 'queued')
