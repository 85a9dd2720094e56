-- Functions for triggers in our schema that belong to none that we know.
select proname::text as function
from pg_proc
where
  pronamespace = to_regnamespace('{schema}')
  and prorettype = 'trigger'::regtype
  and proname <> all (%(functions)s::text[])
order by proname
