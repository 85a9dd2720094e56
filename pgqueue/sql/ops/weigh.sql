-- Give one key that takes turns with others this many shares, in a person's name.
with said as (
  insert into {schema}.gate as kept (name, weight, source)
  values (%(name)s, %(weight)s, 'person')
  on conflict (name) do update set weight = excluded.weight, source = excluded.source
  returning name
)
insert into {schema}.audit (action, task)
select 'limit', name
from said
