-- Whether the schema belongs to the owner role: no row if not, else whether this session may act as it.
select pg_has_role(current_user, nspowner, 'member') as may_act
from pg_namespace
where oid = to_regnamespace('{schema}') and nspowner = to_regrole('{owner}')
