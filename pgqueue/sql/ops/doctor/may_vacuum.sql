-- Whether the table of jobs is this role's to clean: the server would only warn.
select pg_has_role(relowner, 'usage') as may
from pg_class
where oid = '{schema}.job'::regclass
