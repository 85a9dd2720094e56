-- Stop claiming from a queue until it is resumed; running jobs continue.
with paused as (
  insert into {schema}.queue (name, paused_at, paused_by)
  values (%(queue)s, now(), session_user)
  on conflict (name) do update
    set paused_at = coalesce(queue.paused_at, excluded.paused_at), paused_by = coalesce(queue.paused_by, excluded.paused_by)
  returning name
)
insert into {schema}.audit (action, queue)
select 'pause', name from paused
