-- How many events wait after a place, for this transaction.
select count(*)::integer as events
from {window}
where event.at >= coalesce(%(from_at)s::timestamptz, '-infinity')
