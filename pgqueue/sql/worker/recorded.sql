-- Which of these attempts' ends are in history: the answer to the finish that put them there was lost.
select found.id::text, found.state::text
from unnest(%(ids)s::uuid[], %(tokens)s::bigint[], %(kept)s::boolean[]) as ended (id, claim_token, kept)
-- One look for each: joined to history as a whole, it read every partition.
cross join lateral (
  select id, state
  from {schema}.history
  where history.id = ended.id and history.claim_token = ended.claim_token and history.worker = %(worker)s
  union all
  -- Of a success that keeps nothing there is no more to see than that the job is gone.
  select ended.id, 'succeeded'
  where not ended.kept and not exists (select from {schema}.job where job.id = ended.id)
  limit 1
) as found
