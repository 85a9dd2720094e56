-- Write down the rules that this worker's code declares. What a person has set stays as it is.
insert into {schema}.gate as kept (name, slots, keyed, declared_at)
select name, slots, keyed, statement_timestamp()
from unnest(%(names)s::text[], %(slots)s::integer[], %(keyed)s::boolean[]) as declared (name, slots, keyed)
order by name collate "C"  -- one order for all, or two workers that start at once deadlock
on conflict (name) do update
  set
    slots = case when kept.source = 'code' then excluded.slots else kept.slots end,
    keyed = excluded.keyed,
    declared_at = excluded.declared_at
