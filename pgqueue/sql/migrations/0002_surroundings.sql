-- Publications that hold all tables, times that count from the call, and deploys in which old and new code run together.
-- works_with: 1

-- The oldest code that may run on the schema since this migration, so that a worker of the old code may restart in the middle of
-- a deploy. (Code of version 1 does not know of it, and refuses whatever is newer.)
alter table {schema}.migration add column works_with integer;

-- Under a publication FOR ALL TABLES the server refuses to update or delete where no row can be told from another. A key would cost
-- each finish one more index; this costs nothing before a row is deleted, and only where wal_level is logical.
do $$
declare
  cold  regclass;
begin
  for cold in
    select relid from pg_partition_tree('{schema}.history') where isleaf
    union all
    select relid from pg_partition_tree('{schema}.attempt') where isleaf
    union all
    select '{schema}.audit'::regclass
  loop
    execute format('alter table %s replica identity full', cold);
  end loop;
end
$$;

-- A transaction may have begun long before the job is put in, or before the task that it surrounds has ended.
alter table {schema}.job
  alter column run_at set default statement_timestamp(),
  alter column created_at set default statement_timestamp();
alter table {schema}.history alter column finished_at set default statement_timestamp();

-- As before, but on the statement's clock.
create or replace function {schema}.enqueue(
  task          text,
  args          jsonb default '[]',
  kwargs        jsonb default '{}',
  queue         text default 'default',
  priority      integer default 0,
  delay         interval default null,
  run_at        timestamptz default null,
  max_attempts  integer default null,
  timeout_s     real default null,
  expires_at    timestamptz default null,
  unique_key    text default null,
  headers       jsonb default null
) returns uuid
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with due as (
    select coalesce(enqueue.run_at, statement_timestamp()) + coalesce(enqueue.delay, interval '0') as run_at
  ), inserted as (
    insert into {schema}.job as j (
      id, state, run_at, queue, priority, task, args, kwargs, max_attempts, timeout_s, expires_at, unique_key, headers
    )
    select
      {schema}.uuid7(),
      case when due.run_at > statement_timestamp() then 'scheduled' else 'queued' end::{schema}.job_state,
      due.run_at, enqueue.queue, enqueue.priority::smallint, enqueue.task, enqueue.args::text, enqueue.kwargs::text,
      enqueue.max_attempts, enqueue.timeout_s, enqueue.expires_at,
      -- As the library does: an index row could not hold a long one.
      case when length(enqueue.unique_key) > 200
        then encode(sha256(convert_to(enqueue.unique_key, 'UTF8')), 'hex') else enqueue.unique_key end,
      enqueue.headers::text
    from due
    on conflict (unique_key) where unique_key is not null do update set unique_key = excluded.unique_key
    returning j.id, j.queue, j.run_at
  ), rung as (
    select pg_notify('{channel}', inserted.queue)
    from inserted
    where inserted.run_at < statement_timestamp() + interval '10 seconds' and pg_notification_queue_usage() < 0.5
  )
  select inserted.id from inserted left join rung on true
$$;

-- As before, and each new day gets its replica identity.
create or replace function {schema}.tidy(keep_succeeded_days integer, keep_dead_days integer) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
-- Rather try again later than let every finish queue up behind a waiting DDL statement.
set lock_timeout = '500ms'
as $$
declare
  today  date := (now() at time zone 'utc')::date;
  kept   record;
  day    date;
  child  text;
  first  text;
  next   text;
begin
  for kept in
    select *
    from (values
      ('history_succeeded', 'finished_at', keep_succeeded_days),
      ('history_ended', 'finished_at', keep_dead_days),
      ('attempt', 'failed_at', keep_dead_days)
    ) as kept (parent, by_column, days)
  loop
    for day in select today + ahead from generate_series(0, 6) as ahead loop
      child := kept.parent || to_char(day, '_YYYYMMDD');
      first := to_char(day, 'YYYY-MM-DD 00:00:00+00');
      next := to_char(day + 1, 'YYYY-MM-DD 00:00:00+00');
      if to_regclass('{schema}.' || child) is null then
        execute format('create table {schema}.%I (like {schema}.%I including defaults)', child, kept.parent);
        execute format('alter table {schema}.%I replica identity full', child);
        -- Rows that came before their partition did lie in the rest; they move over, or it could not be attached.
        execute format(
          'with late as (delete from {schema}.%1$I where %2$I >= %3$L and %2$I < %4$L returning *)'
          ' insert into {schema}.%5$I select * from late',
          kept.parent || '_rest', kept.by_column, first, next, child
        );
        execute format(
          'alter table {schema}.%I attach partition {schema}.%I for values from (%L) to (%L)', kept.parent, child, first, next
        );
      end if;
    end loop;
    for child in
      select relname
      from pg_inherits
      join pg_class on pg_class.oid = inhrelid
      where
        inhparent = ('{schema}.' || kept.parent)::regclass
        and relname <> kept.parent || '_rest'
        and relname < kept.parent || to_char(today - greatest(kept.days, 1), '_YYYYMMDD')
      order by relname
    loop
      execute format('drop table {schema}.%I', child);
    end loop;
  end loop;
  delete from {schema}.audit where at < now() - interval '1 year';
end
$$;
