-- Add to the sums by which breakers judge how many runs have ended at this worker, and failed; forget those of nobody's concern.
with told as (
  select gate.name, told.ended, told.failed, gate.break_per_s
  from unnest(%(gates)s::text[], %(runs)s::integer[], %(failures)s::integer[]) as told (name, ended, failed)
  join {schema}.gate on gate.name = any (array[told.name])
  where gate.break_share is not null
  order by gate.name
),
forgotten as (
  delete from {schema}.breaker
  using (
    select old.gate, old.worker, old.at
    from told
    cross join lateral (
      select gate, worker, at
      from {schema}.breaker
      where
        gate = told.name
        -- Should the clock have been set back, there are some of the future.
        and (at <= statement_timestamp() - told.break_per_s * interval '1 second' or at > statement_timestamp())
      limit 100
      for update skip locked
    ) as old
  ) as old
  where breaker.gate = old.gate and breaker.worker = old.worker and breaker.at = old.at
)
insert into {schema}.breaker as kept (gate, worker, at, ended, failed)
select
  name,
  %(worker)s::uuid,
  to_timestamp(floor(extract(epoch from statement_timestamp())::float8 / (break_per_s / 20)) * (break_per_s / 20)),
  ended,
  failed
from told
on conflict (gate, worker, at) do update
  set ended = kept.ended + excluded.ended, failed = kept.failed + excluded.failed
