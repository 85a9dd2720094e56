-- Of the events: those that one snapshot does not see and a later one does, from a place on. A transaction that was under way in
-- the first is looked up by its id; all others have ids from its end on.
  (
    event.xid = any (array(select pg_snapshot_xip(%(since)s::pg_snapshot)))
    or (event.xid >= pg_snapshot_xmax(%(since)s::pg_snapshot) and event.xid < pg_snapshot_xmax(%(upto)s::pg_snapshot))
  )
  and pg_visible_in_snapshot(event.xid, %(upto)s::pg_snapshot)
  and event.era = %(era)s
  and event.seq > %(seq)s
