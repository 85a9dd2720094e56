-- As window.sql, where few transactions can lie between the two snapshots: each is asked for its first events, in the order of the
-- index, so that a page of a million events that one of them published is read without a look at the others. What is wanted is asked
-- inside too, as the limit must count no other.
(
  select event.*
  from (
    select pg_snapshot_xip(%(since)s::pg_snapshot) as xid
    union all
    select number::text::xid8
    from generate_series(
      pg_snapshot_xmax(%(since)s::pg_snapshot)::text::bigint,
      pg_snapshot_xmax(%(upto)s::pg_snapshot)::text::bigint - 1
    ) as number
  ) as published
  cross join lateral (
    select *
    from {schema}.event
    where event.xid = published.xid and event.era = %(era)s and event.seq > %(seq)s and {wanted}
    order by event.seq
    limit %(most)s
  ) as event
  where pg_visible_in_snapshot(published.xid, %(upto)s::pg_snapshot)
) as event
