-- Clock, sizes and counts of the whole; each count stops at `count_limit` rows.
select
  now() as now,
  -- Drawn by every insert: tells whether there ever was a job without looking for one among dead rows.
  (select is_called from {schema}.job_seq) as ever_used,
  pg_relation_size('{schema}.job') / current_setting('block_size')::integer as job_pages,
  (
    select (sum(pg_relation_size(relid)) / current_setting('block_size')::integer)::bigint
    from pg_partition_tree('{schema}.history_ended')
  ) as ended_pages,
  -- The order only names the index to be read: with stale statistics a bare limit tempts the planner into the table.
  (
    select count(*)
    from (select from {schema}.job where state = 'scheduled' order by run_at limit %(count_limit)s) as scheduled
  ) as scheduled,
  (
    select count(*)
    from (select from {schema}.job where state = 'running' order by worker limit %(count_limit)s) as running
  ) as running,
  ended.seen as ended,
  ended.dead,
  exists (select from {schema}.subscription) as subscribed
from (
  select count(*) as seen, count(*) filter (where state = 'dead') as dead
  from (select state from {schema}.history_ended limit %(count_limit)s) as newest
) as ended
