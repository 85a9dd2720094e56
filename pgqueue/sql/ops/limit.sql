-- Set how many jobs may be past a gate at once, in a person's name, or leave it to the code again. Returns what it was and is.
with before as (
  select slots from {schema}.gate where name = %(name)s
),
said as (
  insert into {schema}.gate as kept (name, slots, source)
  values (%(name)s, %(slots)s::integer, %(source)s)
  on conflict (name) do update
    set slots = case when excluded.source = 'code' then kept.slots else excluded.slots end, source = excluded.source,
      weight = case when excluded.source = 'code' then null else kept.weight end
  returning name, slots, source
),
audited as (
  insert into {schema}.audit (action, queue, task)
  select
    'limit', case when starts_with(name, 'queue:') then substr(name, 7) end,
    case when not starts_with(name, 'queue:') then name end
  from said
)
select said.slots, said.source, before.slots as was, exists (select from before) as known
from said
left join before on true
