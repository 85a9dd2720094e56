-- The seconds until the next schedule is due; none: null.
select
  extract(epoch from min(next_run_at) - coalesce(%(now)s::timestamptz, statement_timestamp()))::float8 as due_s
from {schema}.schedule
where stopped_at is null and name <> all (%(unable)s::text[])
