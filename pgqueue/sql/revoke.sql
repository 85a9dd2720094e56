-- Ask whether an atomic job's COMMIT arrived: no row back means it did, or that somebody else has the job now.
-- The update waits for that transaction if it is still under way, and the new token shuts it out.
update {schema}.job
set claim_token = claim_token + 1
where id = %(id)s and state = 'running' and claim_token = %(token)s and worker = %(worker)s
returning claim_token
