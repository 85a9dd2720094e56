-- Stop claiming from a queue until it is resumed, or for a time; running jobs continue. Of two pauses the last says for how long.
with paused as (
  insert into {schema}.queue (name, paused_at, paused_by, resume_at)
  values (%(queue)s, now(), session_user, now() + %(for_s)s::float8 * interval '1 second')
  on conflict (name) do update
    set
      -- One that is over by itself has left its row.
      paused_at = case when queue.resume_at <= now() then excluded.paused_at else coalesce(queue.paused_at, excluded.paused_at) end,
      paused_by = case when queue.resume_at <= now() then excluded.paused_by else coalesce(queue.paused_by, excluded.paused_by) end,
      resume_at = excluded.resume_at
  returning name
)
insert into {schema}.audit (action, queue)
select 'pause', name from paused
