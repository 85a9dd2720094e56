-- Note how far running jobs have come; fenced.
update {schema}.job
set progress = reported.progress, progress_note = reported.note
from unnest(%(ids)s::uuid[], %(tokens)s::bigint[], %(fractions)s::real[], %(notes)s::text[])
  as reported (id, claim_token, progress, note)
where
  job.id = any (array[reported.id])  -- see steady_plans.sql
  and job.claim_token = reported.claim_token
  and coalesce(job.state = 'running' and job.worker = %(worker)s, false)
