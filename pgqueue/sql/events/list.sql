-- The newest events of some types, by transaction: what committed late may stand among them.
select id::text, at, type, nullif(key, '') as key, payload, nullif(headers, '') as headers
from {schema}.event
where
  {schema}.event_matches(type, %(types)s::text[])
  and at >= coalesce(%(since)s::timestamptz, '-infinity')
order by xid desc, seq desc
limit %(limit)s
