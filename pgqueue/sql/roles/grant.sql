-- What each role may do. Run by the owner, after every migration: whatever is not granted here is revoked.
--
-- The textbook rule is to grant functions and nothing else. But the path of a job is not made of functions: a function with
-- its owner's rights is never inlined, and its SQL changes by a migration, not with the worker that needs it. So that path
-- has rights on tables, column by column, exactly those that its statements use; a function of the owner's does what would
-- take more:
--
--   enqueue()  so that psql, triggers and other languages need no right on a table
--   publish()  the same for events
--   tidy()     so that workers make partitions without owning a table
--   tidy_events()  the same for the log
--   begin_era()  and another era of it, after a restore
--
-- What follows from it, and is meant:
--   producer   puts jobs in. Reads ids, queues and unique keys of live jobs (what an insert returns, and which job holds a key),
--              never arguments or results; may not replace a job (on_duplicate="replace", debounce), cancel, or wait for a result.
--              Publishes events, and reads none. Notifies and listens to live channels, for which the others need no right but
--              for large payloads.
--   worker     runs jobs. Reads live jobs, since it may claim any; cannot change which task a job is of, read or change history, or
--              pause. It makes jobs, as it makes those of events and of schedules,
--              and reads the log. It may end any job, as it may claim any: no grant could tell an honest result from a forged one.
--   reader     sees counts, names and times: `pgqueue stats`, `workers`, `health`. No arguments, results, headers, unique
--              keys; of an error its kind.
--   admin      does all that producers and readers do, reads everything, cancels, retries, purges, pauses and runs the doctor. It can
--              neither write a result nor sign the audit with another name, but rows that are deleted by hand leave no trace.
--   owner      migrates. Nobody logs in as it.
-- Roles add up: a worker whose tasks defer jobs is a producer too, a web process that waits for results also an admin.

revoke all on schema {schema} from public, {producer}, {worker}, {reader}, {admin};
revoke all on all tables in schema {schema} from public, {producer}, {worker}, {reader}, {admin};
revoke all on all sequences in schema {schema} from public, {producer}, {worker}, {reader}, {admin};
revoke all on all functions in schema {schema} from public, {producer}, {worker}, {reader}, {admin};
-- Without "in schema", which could only add to what everybody has: everybody may call a new function otherwise.
alter default privileges for role {owner} revoke execute on functions from public;
alter function {schema}.enqueue security definer;
alter function {schema}.publish security definer;
alter function {schema}.tidy security definer;
alter function {schema}.tidy_events security definer;
alter function {schema}.begin_era security definer;

grant usage on schema {schema} to {producer}, {worker}, {reader}, {admin};
grant select on {schema}.migration to {producer}, {worker}, {reader}, {admin};
grant select on {schema}.trigger to {reader}, {admin};

-- producer
grant execute on function {schema}.enqueue to {producer};
grant
  insert (
    id, state, run_at, expires_at, max_attempts, timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates,
    gate
  ),
  select (id, queue, run_at, unique_key)
  on {schema}.job to {producer};
grant usage on sequence {schema}.job_seq to {producer};
-- The doorbell rings if one of them sleeps.
grant select (state, sleeping, queues) on {schema}.worker to {producer};

grant execute on function {schema}.publish to {producer};
grant insert (id, type, key, payload, headers) on {schema}.event to {producer};
-- Whether an event whose answer was lost is there; and who sleeps until one comes.
grant select (id, at) on {schema}.event to {producer};
grant usage on sequence {schema}.event_seq to {producer};
grant select (asleep, until) on {schema}.event_reader to {producer};
-- Payloads of live channels that NOTIFY cannot carry: everybody hears the small ones, so their receivers may read these.
grant insert (id, payload), select (id, payload) on {schema}.notice to {producer};
-- Which job a period has.
grant select, insert (key, until, job_id), update (until, job_id) on {schema}.period to {producer};

-- worker
grant execute
  on function {schema}.tidy, {schema}.tidy_events, {schema}.begin_era, {schema}.uuid7, {schema}.event_matches,
    {schema}.event_page, {schema}.dispatch_events
  to {worker};
grant
  insert (
    id, state, run_at, expires_at, max_attempts, timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates,
    gate
  )
  on {schema}.job to {worker};
grant select on {schema}.event, {schema}.event_era to {worker};
grant select, insert, update on {schema}.gate, {schema}.pace to {worker};
grant select, insert, update, delete on {schema}.breaker to {worker};
grant select, insert on {schema}.tick to {worker};
grant select, insert, update on {schema}.subscription to {worker};
grant select, insert, update, delete on {schema}.place, {schema}.event_reader to {worker};
grant select, insert, update on {schema}.webhook to {worker};
grant select, insert, update, delete on {schema}.schedule, {schema}.fired, {schema}.declared to {worker};
grant
  select, delete,
  update (state, seq, claim_token, attempt, crashes, worker, run_at, started_at, progress, progress_note, handed_back_at, gates, gate,
    -- Of a batch, which becomes the job of the event that fails: that it could also delete, and make another.
    args, unique_key)
  on {schema}.job to {worker};
grant usage on sequence {schema}.job_seq to {worker};
grant
  insert (
    id, claim_token, run_at, created_at, started_at, expires_at, worker, state, attempt, crashes, max_attempts,
    timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, result, error
  ),
  -- Whether a finish arrived whose answer was lost.
  select (id, claim_token, worker, state)
  on {schema}.history to {worker};
grant
  insert (job_id, claim_token, started_at, attempt, task, queue, worker_name, cause, error, traceback)
  on {schema}.attempt to {worker};
grant select, insert, update, delete on {schema}.worker, {schema}.throughput to {worker};
grant select on {schema}.queue to {worker};
grant select, delete on {schema}.awaited to {worker};

grant insert (id, payload), select (id, payload, at), delete on {schema}.notice to {worker};
-- A lock on a row needs the right to change something in it.
grant select (key, until), update (until), delete on {schema}.period to {worker};

-- reader
grant execute on function {schema}.event_matches to {reader};
grant select on {schema}.subscription, {schema}.place, {schema}.tick, {schema}.event_era to {reader};
-- The limits; not at which key a job waits, which may be somebody's name.
grant select on {schema}.gate to {reader};
grant select (at, xid, seq, id, era, type) on {schema}.event to {reader};
-- Not the URL, which may hold a token, and no secrets.
grant select (name, site, types, allow_private, created_at, declared_at, disabled_at, why) on {schema}.webhook to {reader};
grant
  select (
    name, cron, every_s, tz, task, missed, overlap, jitter_s, source, fingerprint, paused_at, resume_at, undeclared_at, stopped_at,
    next_run_at, last_run_at, last_job, error
  )
  on {schema}.schedule to {reader};
grant select on {schema}.fired to {reader};
grant
  select (
    id, seq, state, queue, priority, task, attempt, max_attempts, crashes, created_at, run_at, started_at, expires_at,
    timeout_s, worker, progress, progress_note, cancel_requested_at, gate
  )
  on {schema}.job to {reader};
grant
  select (
    id, state, queue, priority, task, attempt, max_attempts, crashes, created_at, run_at, started_at, finished_at,
    expires_at, timeout_s, worker
  )
  on {schema}.history, {schema}.history_ended to {reader};
grant select on {schema}.failures, {schema}.worker, {schema}.queue, {schema}.throughput, {schema}.audit to {reader};
grant select on sequence {schema}.job_seq to {reader};

-- admin
grant execute
  on function {schema}.tidy, {schema}.tidy_events, {schema}.begin_era, {schema}.event_era_is_over, {schema}.event_cluster,
    {schema}.event_matches
  to {admin};
grant select on {schema}.event, {schema}.event_era, {schema}.event_reader to {admin};
grant select, insert, update on {schema}.gate, {schema}.pace to {admin};
grant select, insert on {schema}.tick to {admin};
grant
  select, insert, update, delete
  on {schema}.subscription, {schema}.place, {schema}.webhook, {schema}.schedule, {schema}.fired, {schema}.declared
  to {admin};
grant select
  on {schema}.job, {schema}.history, {schema}.jobs, {schema}.attempt, {schema}.failures, {schema}.worker, {schema}.queue,
    {schema}.throughput, {schema}.awaited, {schema}.audit, {schema}.period,
    -- Where the doctor looks for rows without a partition of their day.
    {schema}.history_succeeded_rest, {schema}.history_ended_rest, {schema}.attempt_rest
  to {admin};
grant insert, update, delete on {schema}.job to {admin};
grant
  insert (
    id, claim_token, run_at, created_at, started_at, expires_at, worker, state, attempt, crashes, max_attempts,
    timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, error
  ),
  delete,
  -- A lock on a row needs the right to change something in it: what says nothing any more once a job has ended.
  update (expires_at)
  on {schema}.history to {admin};
grant
  insert (job_id, claim_token, started_at, attempt, task, queue, worker_name, cause, error), delete
  on {schema}.attempt to {admin};
-- Rows of dead workers, by which the doctor rescues jobs that no worker holds; to sign in takes more.
grant
  insert (id, lease_until, pid, concurrency, state, name, version, app, tasks), update (state, sleeping), delete
  on {schema}.worker to {admin};
grant delete on {schema}.throughput to {admin};
grant insert, update, delete on {schema}.awaited to {admin};
grant insert, update on {schema}.queue to {admin};
grant insert (action, job_id, queue, task, state, jobs) on {schema}.audit to {admin};
