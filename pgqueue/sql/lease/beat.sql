-- Renew this worker's lease, count what it did, and look at the others. No state in the answer: this worker was declared dead.
with me as (
  update {schema}.worker
  set
    -- Not now(), the time at which the statement began: one that had to wait for a lock, and whose sender has long sent
    -- another on a new session, would put the lease back.
    heartbeat_at = clock_timestamp(),
    lease_until = clock_timestamp() + %(lease_s)s * interval '1 second',
    suspect_since = null,
    sleeping = %(sleeping)s,
    lock_key = %(lock_key)s,
    backend_pid = pg_backend_pid(),
    state = %(state)s
  where id = %(worker)s and state <> 'dead'
  returning state
),
-- A worker that was not heard itself must not judge others: after a pause of the whole server every lease has run out at once, and
-- the first to beat would bury all the rest. So the last heartbeat (this reads what was before the update above) must be
-- recent, and old enough for the others to have had their turn since.
judge as (
  select from {schema}.worker
  where
    id = %(worker)s
    and heartbeat_at between now() - %(fresh_s)s * interval '1 second' and now() - interval '1 second'
),
counted as (
  insert into {schema}.throughput (at, worker, succeeded, failed, dead, cancelled)
  select
    to_timestamp(floor(extract(epoch from now()) / 10) * 10), %(worker)s,
    %(succeeded)s, %(failed)s, %(dead)s, %(cancelled)s
  -- A worker that was declared dead counts them again under its new id.
  where exists (select from me) and %(succeeded)s + %(failed)s + %(dead)s + %(cancelled)s > 0
  on conflict (at, worker) do update
    set
      succeeded = throughput.succeeded + excluded.succeeded,
      failed = throughput.failed + excluded.failed,
      dead = throughput.dead + excluded.dead,
      cancelled = throughput.cancelled + excluded.cancelled
)
select
  (select state from me) as state,
  -- Live workers whose lease ran out, or whose session is gone; not while everybody reconnects to a server just started. (One
  -- that starts in the future has had its clock set back.)
  array(
    select id::text
    from {schema}.worker
    where
      id <> %(worker)s and state <> 'dead'
      and exists (select from judge)
      and pg_postmaster_start_time() not between now() - interval '5 seconds' and now()
      and (
        lease_until < now()
        or (
          -- After a fail-over all sessions are new; the first must wait for those that still try the old primary.
          %(settled)s
          and suspect_since < now() - %(grace_s)s * interval '1 second'
          and pg_try_advisory_xact_lock(%(lock_class)s, lock_key)
        )
      )
  ) as expired,
  -- Live workers whose session lock is free, or whose last heartbeat lies in the future: the clock was set back, and one that
  -- has died by then would else count as alive for as long as that.
  array(
    select id::text
    from {schema}.worker
    where
      id <> %(worker)s and state <> 'dead'
      and (
        heartbeat_at > now() + interval '5 seconds'
        or (
          (suspect_since is null or suspect_since > now()) and lock_key is not null
          and pg_try_advisory_xact_lock(%(lock_class)s, lock_key)
        )
      )
  ) as sessionless,
  -- What the jobs say. Most heartbeats do not ask them: a migration may have locked their table, and a lease must not wait.
  {jobs}
