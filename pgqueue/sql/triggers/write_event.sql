-- An event for each row.
  insert into {schema}.event (id, type, key, payload)
  select {schema}.uuid7(), {type}, {key}, ({said})::text
  from {rows}
  where {condition};
{ring}
