-- Write down the rules that this worker's code declares. What a person has set stays as it is.
insert into {schema}.gate as kept (name, slots, every_s, burst, keeps, halts, keyed, shares, declared_at)
select name, slots, every_s, burst, keeps, halts, keyed, shares::jsonb, statement_timestamp()
from unnest(
  %(names)s::text[], %(slots)s::integer[], %(every_s)s::float8[], %(bursts)s::integer[], %(keeps)s::boolean[],
  %(halts)s::boolean[], %(keyed)s::boolean[], %(shares)s::text[]
) as declared (name, slots, every_s, burst, keeps, halts, keyed, shares)
order by name collate "C"  -- one order for all, or two workers that start at once deadlock
on conflict (name) do update
  set
    slots = case when kept.source = 'code' then excluded.slots else kept.slots end,
    every_s = excluded.every_s,
    burst = excluded.burst,
    keeps = excluded.keeps,
    halts = excluded.halts,
    keyed = excluded.keyed,
    shares = excluded.shares,
    declared_at = excluded.declared_at
