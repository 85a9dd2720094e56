-- Until the end of the transaction: walk along an index and stop when there is enough, whatever is known of the tables. To read
-- and sort them all looks cheaper while a million new rows have not been analyzed: 4 s for a page of 20 jobs.
select pg_catalog.set_config(setting, value, true)
from (
  values
    ('enable_seqscan', 'off'),
    ('enable_bitmapscan', 'off'),
    ('enable_sort', 'off'),
    ('max_parallel_workers_per_gather', '0'),
    -- What is off counts as so expensive before PostgreSQL 18 that the server would compile the statement.
    ('jit', 'off')
) as wanted (setting, value)
