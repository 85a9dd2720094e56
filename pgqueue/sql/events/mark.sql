-- Say whether this reader sleeps until an event comes, so that a publish knows whether to ring.
insert into {schema}.event_reader (id, until, asleep)
values (%(reader)s::uuid, now() + interval '2 minutes', %(asleep)s)
on conflict (id) do update set until = excluded.until, asleep = excluded.asleep
