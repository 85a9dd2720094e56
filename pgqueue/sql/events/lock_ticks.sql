-- Make ticks one after the other, so that their numbers stand in the order of their snapshots: an inverted pair would deliver
-- twice. Held to the end of the transaction, and taken before the statement whose snapshot it is.
select
  pg_advisory_xact_lock(%(lock_class)s, hashtext('{schema}.tick')),
  -- A program that is frozen before the end, or cut off, would hold up everybody else: the server ends its session. Not in a
  -- transaction that is lent.
  case when not %(lent)s then set_config('idle_in_transaction_session_timeout', %(still_ms)s, true) end
