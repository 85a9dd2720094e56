-- Note how many events were in a batch that failed, and forget that its process died: the next batch is another. Fenced by the
-- job and by where it read.
with failed as (
  update {schema}.place
  set suspects = %(suspects)s, error = %(error)s
  where
    subscription = %(subscription)s and lane = %(lane)s and tick = %(tick)s and seq = %(seq)s
    and exists (
      select
      from {schema}.job
      where id = %(id)s and claim_token = %(token)s and coalesce(state = 'running' and worker = %(worker)s, false)
    )
  returning lane
),
forgiven as (
  update {schema}.job set crashes = 0 where id = %(id)s and crashes > 0 and exists (select from failed)
)
select lane from failed
