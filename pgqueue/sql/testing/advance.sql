-- Let time pass for all jobs: each of their times is that much further back. Workers' leases and the audit stay where they are.
with passed as (select %(seconds)s * interval '1 second' as span),
jobs as (
  update {schema}.job
  set
    run_at = run_at - span, created_at = created_at - span, started_at = started_at - span,
    expires_at = expires_at - span, cancel_requested_at = cancel_requested_at - span, handed_back_at = handed_back_at - span
  from passed
),
ended as (
  update {schema}.history
  set
    finished_at = finished_at - span, run_at = run_at - span, created_at = created_at - span, started_at = started_at - span,
    expires_at = expires_at - span
  from passed
),
queues as (
  update {schema}.queue
  set resume_at = resume_at - span, paused_at = paused_at - span
  from passed
),
periods as (
  update {schema}.period
  set until = until - span
  from passed
),
failed as (
  update {schema}.attempt
  set failed_at = failed_at - span, started_at = started_at - span
  from passed
),
closed as (
  update {schema}.gate
  set
    closed_at = closed_at - span, closed_until = closed_until - span, half_open_at = half_open_at - span,
    trial_at = trial_at - span, break_from = break_from - span
  from passed
  where closed_at is not null
),
runs as (
  update {schema}.breaker
  set at = at - span
  from passed
),
-- After the jobs, as in admit.sql.
paces as (
  update {schema}.pace
  set tat = tat - span
  from passed
)
select
