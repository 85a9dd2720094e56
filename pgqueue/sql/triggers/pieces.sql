-- The pieces of SQL of which a trigger is made, for each of its events: the server itself quotes every name.
with one as (
  select
    attname as name,
    place,
    coalesce(place < indnkeyatts, false) as is_key,
    attname = any (%(columns)s::text[]) as is_watched,
    -- Equality is found by the search path, so for a type of an extension it would not be found; JSON and XML have none, and that
    -- of boxes and circles compares areas.
    case
      when base.typtype = 'b' and base.typcategory <> 'A'
        and (base.typnamespace <> 'pg_catalog'::regnamespace or base.typcategory = 'G' or base.typname in ('json', 'xml'))
      then '::text' else ''
    end as compared
  from pg_attribute
  join pg_index on indrelid = attrelid and indisprimary
  join pg_type as own on own.oid = atttypid
  join pg_type as base on base.oid = case own.typtype when 'd' then own.typbasetype else own.oid end
  cross join lateral array_position(indkey::smallint[], attnum) as place  -- counted from 0, as such a vector is
  where attrelid = %(table)s::regclass and attnum > 0 and not attisdropped
), joined as (
  select
    string_agg(format('new.%%1$I%%2$s = old.%%1$I%%2$s', name, compared), ' and ' order by place) filter (where is_key)
      as same_key,
    case when cardinality(%(columns)s::text[]) > 0 then format(
      '(%%s) is distinct from (%%s)',
      string_agg(format('new.%%I%%s', name, compared), ', ' order by name) filter (where is_watched),
      string_agg(format('old.%%I%%s', name, compared), ', ' order by name) filter (where is_watched)
    -- Not `is distinct from`: it would fail at a column whose type has no equality.
    ) else 'new operator(pg_catalog.*<>) old' end as changed,
    min(format('new.%%I is null', name)) filter (where place = 0) as no_new,
    min(format('old.%%I is null', name)) filter (where place = 0) as no_old
  from one
), by_event as (
  select
    event, joined.*,
    case
      when event = 'insert' then 'new%%1$s'
      when event = 'delete' then 'old%%1$s'
      when %(by_row)s then 'case when changed.op = ''delete'' then old%%1$s else new%%1$s end'
      else format('case when %%s then old%%%%1$s else new%%%%1$s end', replace(no_new, '%%', '%%%%'))
    end as side,
    case
      when event <> 'update' then format('%%L', event)
      when %(by_row)s then 'changed.op'
      else format('case when %%s then ''insert'' when %%s then ''delete'' else ''update'' end', no_old, no_new)
    end as op
  from joined
  cross join unnest(%(events)s::text[]) as event
), said as (
  select
    by_event.*,
    format(side, '') as whole,
    (select string_agg(format(side, format('.%%I', name)), ', ' order by place) from one where is_key) as keys,
    (
      select string_agg(format('%%L, %%s', name, format(side, format('.%%I', name))), ', ' order by place)
      from one where is_key
    ) as pairs,
    case event
      when 'insert' then '''{}''::jsonb'
      when 'update' then format('case when %%s then ''{}''::jsonb else to_jsonb(old) end', case when %(by_row)s then 'changed.op = ''insert''' else no_old end)
      else 'to_jsonb(old)'
    end as old_row,
    case event
      when 'delete' then '''{}''::jsonb'
      when 'update' then format('case when %%s then ''{}''::jsonb else to_jsonb(new) end', case when %(by_row)s then 'changed.op = ''delete''' else no_new end)
      else 'to_jsonb(new)'
    end as new_row
  from by_event
), complete as (
  select
    said.*,
    case event
      when 'update' then format(
        'case when %%s then to_jsonb(old) else to_jsonb(new) end', case when %(by_row)s then 'changed.op = ''delete''' else no_new end
      )
      else format('to_jsonb(%%s)', whole)
    end as whole_row,
    format(
      '(select coalesce(jsonb_object_agg(name, jsonb_build_array(was -> name, is_now -> name)), ''{}'')'
      ' from (select %%s as was, %%s as is_now) as sides cross join jsonb_object_keys(was || is_now) as name'
      ' where coalesce(was -> name, ''null'') <> coalesce(is_now -> name, ''null'')%%s)',
      old_row, new_row,
      case when cardinality(%(columns)s::text[]) > 0 then format(' and name = any (%%L::text[])', %(columns)s::text[]::text) end
    ) as changes
  from said
)
select
  event,
  op,
  case
    when event = 'truncate' then '(select) as one'
    when not %(by_row)s then case event
      when 'insert' then 'new_rows as new'
      when 'delete' then 'old_rows as old'
      -- A changed key is a delete and an insert: the rows of both sides that have no partner.
      else format('new_rows as new full join old_rows as old on %%s', same_key)
    end
    when event <> 'update' then '(select) as one'
    else format(
      'unnest(case when %%s then array[''update''] else array[''delete'', ''insert''] end) as changed (op)', same_key
    )
  end as rows,
  -- The same with the table itself, to try them out.
  case
    when event = 'truncate' then '(select) as one'
    when event = 'insert' then format('%%s as new', %(table)s::regclass)
    when event = 'delete' then format('%%s as old', %(table)s::regclass)
    when %(by_row)s then format(
      '%%1$s as new cross join %%1$s as old cross join (select ''update'') as changed (op)', %(table)s::regclass
    )
    else format('%%1$s as new full join %%1$s as old on %%2$s', %(table)s::regclass, same_key)
  end as sample,
  case when event = 'update' then changed else 'true' end as changed,
  case when event = 'update' and not %(by_row)s then format('%%s or %%s', no_new, no_old) else 'false' end as unpaired,
  case event
    when 'insert' then 'referencing new table as new_rows'
    when 'delete' then 'referencing old table as old_rows'
    when 'update' then 'referencing new table as new_rows old table as old_rows'
    else ''
  end as referencing,
  case when event = 'truncate' then format('%%L', %(name)s::text)
    else format('concat_ws('':'', %%L, %%s)', %(name)s::text, keys) end as key,
  case
    when event = 'truncate' and %(as_object)s then format('jsonb_build_object(''op'', %%s)', op)
    when event = 'truncate' then '''[]''::jsonb'
    when %(as_object)s then format(
      'jsonb_build_object(''op'', %%s, ''key'', jsonb_build_object(%%s)%%s)', op, pairs,
      case %(payload)s when 'row' then format(', ''row'', %%s', whole_row) when 'changes' then format(', ''changes'', %%s', changes) end
    )
    when %(payload)s = 'row' then format('jsonb_build_array(%%s)', whole_row)
    when %(payload)s = 'changes' then format('jsonb_build_array(%%s, %%s)', keys, changes)
    else format('jsonb_build_array(%%s)', keys)
  end as said
from complete
