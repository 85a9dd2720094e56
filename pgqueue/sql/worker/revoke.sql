-- Ask whether an atomic job's COMMIT arrived: no row back means it did, or that another worker has the job now.
-- The update waits for that transaction if it is still under way, and the new token shuts it out.
update {schema}.job
set claim_token = claim_token + 1
-- Found by id and by nothing else, as in finish.sql.
where id = %(id)s and claim_token = %(token)s and coalesce(state = 'running' and worker = %(worker)s, false)
returning claim_token
