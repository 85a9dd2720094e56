on conflict (unique_key) where unique_key is not null do update
  set
    task = excluded.task, queue = excluded.queue, priority = excluded.priority, args = excluded.args,
    kwargs = excluded.kwargs, headers = excluded.headers, max_attempts = excluded.max_attempts,
    timeout_s = excluded.timeout_s, run_at = excluded.run_at, expires_at = excluded.expires_at,
    state = excluded.state, seq = excluded.seq, handed_back_at = null, gates = excluded.gates, gate = excluded.gate
  -- What runs has its arguments already; it stays as it is.
  where job.state in ('waiting', 'scheduled', 'queued')
