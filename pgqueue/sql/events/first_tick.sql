-- A tick from before all events, for who begins with the first one.
insert into {schema}.tick (id, era, snap)
overriding system value
select 0, min(era), '1:1:' from {schema}.event_era
on conflict (id) do nothing
