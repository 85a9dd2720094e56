-- Be the only one that makes jobs of events, and ticks, to the end of the transaction. No row is locked: who finds nothing to
-- do writes nothing.
select
  case when pg_try_advisory_xact_lock(%(lock_class)s, hashtext('{schema}.dispatch'))
    then pg_advisory_xact_lock(%(lock_class)s, hashtext('{schema}.tick')) is not null else false end as locked
-- See lock_ticks.sql.
from set_config('idle_in_transaction_session_timeout', %(still_ms)s, true)
