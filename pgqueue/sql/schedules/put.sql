-- Make a schedule, or bring one up to date. Its next time stays where it is unless its times have changed.
insert into {schema}.schedule (
  name, cron, every_s, anchor_at, tz, task, args, kwargs, options, missed, missed_most, overlap, jitter_s, source, fingerprint,
  next_run_at
)
values (
  %(name)s, %(cron)s, %(every_s)s, %(anchor_at)s, %(tz)s, %(task)s, %(args)s, %(kwargs)s, %(options)s, %(missed)s,
  %(missed_most)s, %(overlap)s, %(jitter_s)s, %(source)s, %(fingerprint)s, %(next_run_at)s
)
on conflict (name) do update
  set
    cron = excluded.cron, every_s = excluded.every_s, anchor_at = excluded.anchor_at, tz = excluded.tz, task = excluded.task,
    args = excluded.args, kwargs = excluded.kwargs, options = excluded.options, missed = excluded.missed,
    missed_most = excluded.missed_most, overlap = excluded.overlap, jitter_s = excluded.jitter_s, source = excluded.source,
    fingerprint = excluded.fingerprint, error = null,
    next_run_at = case
      when schedule.paused_at is not null and schedule.resume_at is null then null
      when %(moved)s or schedule.next_run_at is null then excluded.next_run_at
      else schedule.next_run_at
    end
