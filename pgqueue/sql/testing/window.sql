-- The events that this transaction sees after a place: its own, which no snapshot tells from those before, and what came since.
(
  select *
  from {schema}.event
  where
    seq > %(seq)s
    and (xid = pg_current_xact_id_if_assigned() or not pg_visible_in_snapshot(xid, %(since)s::pg_snapshot))
) as event
