-- The transactions that look at gates just now, each with a lock of theirs: what they let through is by the limits as they were when
-- they began.
select distinct virtualtransaction
from pg_locks
where
  locktype = 'advisory' and classid = %(lock_class)s::integer::oid
  and database = (select oid from pg_database where datname = current_database())
