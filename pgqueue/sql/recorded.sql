-- Which of these attempts' ends stand in history: the answer to the finish that put them there was lost.
select history.id::text, history.state::text
from unnest(%(ids)s::uuid[], %(tokens)s::bigint[]) as ended (id, claim_token)
join {schema}.history on
  -- Both: as a join alone it read every partition.
  history.id = any (%(ids)s::uuid[]) and history.id = ended.id and history.claim_token = ended.claim_token and history.worker = %(worker)s
