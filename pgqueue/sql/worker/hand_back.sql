-- Release a job whose arguments this worker's code does not take, for a live worker with other code, as during a deploy.
-- No row back: there is none, the job has waited for one for an hour, or it is not ours any more.
update {schema}.job
set
  state = 'scheduled',
  -- As long as it has waited so far, so each time twice as long.
  run_at = now() + least(greatest(now() - coalesce(handed_back_at, now()), interval '1 second'), interval '1 minute'),
  handed_back_at = coalesce(handed_back_at, now()),
  attempt = attempt - 1,
  gate = case
    when job.gates is null then job.gate
    -- A failed attempt gives up its places, but for that at a first gate whose rule keeps them.
    when not exists (select from {schema}.gate where name = split_part(job.gates[1], '=', 1) and keeps) then 0
    when cardinality(job.gates) = 1 then job.gate
    else 2
  end,
  worker = null,
  progress = null,
  progress_note = null
-- Found by id and by nothing else, as in finish.sql.
where
  id = %(id)s
  and claim_token = %(token)s
  and coalesce(state = 'running' and worker = %(worker)s, false)
  and cancel_requested_at is null
  and coalesce(handed_back_at > now() - interval '1 hour', true)
  and exists (
    select
    from {schema}.worker as other
    where
      other.state = 'alive'
      and other.lease_until > now()
      and (other.queues is null or job.queue = any (other.queues))
      and job.task = any (other.tasks)
      and other.code is distinct from (select code from {schema}.worker where id = %(worker)s)
  )
returning task, extract(epoch from run_at - now())::float8 as delay_s
