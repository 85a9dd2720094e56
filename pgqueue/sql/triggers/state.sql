-- What the server has of a trigger: for each event its function and its trigger, as digests.
select
  event,
  md5(prosrc) as body,
  md5(concat_ws(' ', prosecdef, proconfig, has_function_privilege('public', pg_proc.oid, 'execute'))) as rights,
  tgrelid::regclass::text as table_name,
  md5(pg_get_triggerdef(pg_trigger.oid)) as definition,
  tgenabled::text as enabled,
  (
    select count(*)::int
    from pg_trigger as part
    where part.tgfoid = pg_proc.oid and part.tgparentid <> 0 and part.tgenabled not in ('O', 'A')
  ) as disabled_parts
from unnest(array['insert', 'update', 'delete', 'truncate']) as event
join pg_proc on proname = {prefix} || event and pronamespace = to_regnamespace('{schema}')
left join pg_trigger on tgfoid = pg_proc.oid and tgparentid = 0
