-- Let nobody through a gate for a while, or until it is opened again; running jobs continue, and its limit stays.
with closed as (
  insert into {schema}.gate as kept (name, source, closed_at, closed_until, closed_by, closed_why)
  values (
    %(name)s, 'code', statement_timestamp(), statement_timestamp() + %(for_s)s::float8 * interval '1 second', session_user, %(why)s
  )
  on conflict (name) do update
    set
      -- A pause that is over by itself has left its row.
      closed_at = case when kept.closed_until <= statement_timestamp() or kept.half_open_at is not null then excluded.closed_at
        else coalesce(kept.closed_at, excluded.closed_at) end,
      closed_until = excluded.closed_until,
      closed_by = excluded.closed_by, closed_why = excluded.closed_why,
      -- A person's word counts before that of its breaker.
      half_open_at = null, trial = null, trial_at = null, trial_attempt = null
  returning name
)
insert into {schema}.audit (action, queue, task)
select
  'pause', case when starts_with(name, 'queue:') then substr(name, 7) end,
  case when not starts_with(name, 'queue:') then name end
from closed
