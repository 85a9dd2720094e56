-- Let jobs through a closed gate again. No row: it was not closed.
with opened as (
  update {schema}.gate
  set
    closed_at = null, closed_until = null, closed_by = null, closed_why = null,
    -- Its breaker counts from zero again.
    half_open_at = null, trial = null, trial_at = null, trial_attempt = null, break_from = statement_timestamp()
  where name = %(name)s and closed_at is not null
  returning name, coalesce(closed_until > statement_timestamp(), true) as was_closed
),
audited as (
  insert into {schema}.audit (action, queue, task)
  select
    'resume', case when starts_with(name, 'queue:') then substr(name, 7) end,
    case when not starts_with(name, 'queue:') then name end
  from opened
)
select name
from opened
