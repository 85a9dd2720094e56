-- Of the events: those that one snapshot does not see and a later one does, from a place on. A transaction that was under way in
-- the first is looked up by its id; all others have ids from its end on. Two branches, as each walks along the index also in a
-- plan that was made for any values.
(
  select *
  from {schema}.event
  where
    xid = any (array(select pg_snapshot_xip(%(since)s::pg_snapshot)))
    and pg_visible_in_snapshot(xid, %(upto)s::pg_snapshot)
    and era = %(era)s and seq > %(seq)s
  union all
  select *
  from {schema}.event
  where
    xid >= pg_snapshot_xmax(%(since)s::pg_snapshot) and xid < pg_snapshot_xmax(%(upto)s::pg_snapshot)
    and pg_visible_in_snapshot(xid, %(upto)s::pg_snapshot)
    and era = %(era)s and seq > %(seq)s
) as event
