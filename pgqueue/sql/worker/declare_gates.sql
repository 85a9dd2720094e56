-- Write down the rules that this worker's code declares. What a person has set stays as it is.
insert into {schema}.gate as kept (
  name, slots, every_s, burst, keeps, halts, keyed, shares, break_share, break_of, break_per_s, break_rest_s, declared_at
)
select
  name, slots, every_s, burst, keeps, halts, keyed, shares, break_share, break_of, break_per_s, break_rest_s,
  statement_timestamp()
from unnest(
  %(names)s::text[], %(slots)s::integer[], %(every_s)s::float8[], %(bursts)s::integer[], %(keeps)s::boolean[],
  %(halts)s::boolean[], %(keyed)s::boolean[], %(shares)s::text[], %(break_shares)s::float8[], %(break_ofs)s::integer[],
  %(break_pers)s::float8[], %(break_rests)s::float8[]
) as declared (name, slots, every_s, burst, keeps, halts, keyed, shares, break_share, break_of, break_per_s, break_rest_s)
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
    break_share = excluded.break_share,
    break_of = excluded.break_of,
    break_per_s = excluded.break_per_s,
    break_rest_s = excluded.break_rest_s,
    -- One that is no longer declared has nobody who would open it.
    half_open_at = case when excluded.break_share is not null then kept.half_open_at end,
    trial = case when excluded.break_share is not null then kept.trial end,
    declared_at = excluded.declared_at
