-- Plan each prepared statement once, for this session, and in the only way that is right whatever the tables hold by then.
select pg_catalog.set_config(setting, value, false)
from (
  values
    -- Planning took two thirds of a claim of one job: 0.33 of 0.49 ms.
    ('plan_cache_mode', 'force_generic_plan'),
    -- A plan made while the tables were small would be kept when they have a million rows. What is left is to take the few
    -- rows that a statement names by their index, one after the other; every statement of a worker is written for that.
    -- Where it joins jobs by their ids it says `job.id = any (array[named.id])`: a plain equality could also be merged in the
    -- order of the index, so the planner would offer to read the whole of it, and take that while the table is empty.
    ('enable_seqscan', 'off'),
    ('enable_bitmapscan', 'off'),
    ('enable_hashjoin', 'off'),
    ('enable_mergejoin', 'off'),
    -- To see whether one job is left two processes were started, which read on, over 1,000 blocks, until they were told to stop.
    ('max_parallel_workers_per_gather', '0'),
    -- The table of workers is read as a whole in spite of it, which counts as so costly before PostgreSQL 18 that the server would
    -- compile the statement each time it is said: 175 ms for a promote that does nothing.
    ('jit', 'off')
) as wanted (setting, value)
