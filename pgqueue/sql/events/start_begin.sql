-- Where a reader begins that gets all that is kept: at a tick of its own, before all others, that sees nothing.
insert into {schema}.tick (id, at, era, snap)
overriding system value
select
  coalesce((select min(id) from {schema}.tick), 1) - 1,
  '1970-01-01 00:00Z',
  coalesce((select min(era) from {schema}.event), (select max(era) from {schema}.event_era)),
  '3:3:'
returning id as tick, 0::bigint as seq
