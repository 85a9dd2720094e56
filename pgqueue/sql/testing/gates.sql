-- The gates at which jobs wait: a drain looks at each once, as others may have looked while it was full and have gone.
select distinct gates[greatest(gate, 1::smallint)] as gate
from {schema}.job
where state = 'waiting' and gate is not null
order by gate
