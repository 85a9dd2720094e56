-- Take the locks of these gates until the transaction ends, as far as they are free: what another session holds it looks after.
-- Returns those that are ours, and notes them for admit.sql, which can then be sent without waiting for the answer.
select ours.gates, set_config('pgqueue.gates', ours.gates::text, true) as noted
from (
  select coalesce(array_agg(gate), '{}') as gates
  from unnest(%(gates)s::text[]) as wanted (gate)
  where pg_try_advisory_xact_lock(%(lock_class)s, hashtext(gate))
) as ours
