-- Close these gates where too many runs have failed: those of all workers, within the time that the breaker says. Of two workers
-- that see it one closes it; and neither where a person has, or just now holds the row.
with seen as (
  select state.name, state.break_rest_s, runs.ended, runs.failed
  from unnest(%(gates)s::text[]) as told (name)
  cross join lateral (
    select name, break_share, break_of, break_per_s, break_rest_s, break_from
    from {schema}.gate
    where
      name = told.name and break_share is not null and half_open_at is null
      and (closed_at is null or closed_until <= statement_timestamp())
    for update skip locked
  ) as state
  cross join lateral (
    select sum(ended) as ended, sum(failed) as failed
    from {schema}.breaker
    where
      gate = state.name
      and at > statement_timestamp() - state.break_per_s * interval '1 second' and at <= statement_timestamp()
      and (state.break_from is null or at >= state.break_from or state.break_from > statement_timestamp())
  ) as runs
  where runs.ended >= state.break_of and runs.failed >= state.break_share * runs.ended - 1e-9
),
closed as (
  update {schema}.gate
  set
    closed_at = statement_timestamp(),
    closed_until = statement_timestamp() + seen.break_rest_s * interval '1 second',
    half_open_at = statement_timestamp() + seen.break_rest_s * interval '1 second',
    closed_by = 'the breaker',
    closed_why = seen.failed || ' of ' || seen.ended || ' failed',
    trial = null, trial_at = null, trial_attempt = null
  from seen
  where gate.name = any (array[seen.name])
  returning gate.name, seen.break_rest_s, gate.closed_why
)
select name as gate, break_rest_s as rest_s, closed_why as why from closed
