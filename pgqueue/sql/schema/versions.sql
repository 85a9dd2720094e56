-- The migrations that were applied, each with the oldest code that may run since; null before that was written down.
select version, (to_jsonb(migration) ->> 'works_with')::integer as works_with
from {schema}.migration
order by version
