-- The next events of a window that a lane wants, in order, as many as fit into the memory that is granted: one at least. `found`
-- counts those before that cut.
with found as materialized (
  select event.seq, event.id, event.type, event.key, event.payload, event.headers, event.at
  from {window}
  where {wanted}
  order by event.seq
  limit %(most)s
),
weighed as (
  select *, sum(octet_length(payload)) over (order by seq) - octet_length(payload) as before, count(*) over () as found
  from found
)
select
  seq, id::text, type, key, payload, headers, at,
  -- That in which it is read, not of which it is: what a bus got after a dump was made has the same numbers of the old era.
  (select max(era) from {schema}.event_era)::integer as era,
  found
from weighed
where before < %(bytes)s
order by seq
