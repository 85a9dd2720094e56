-- enqueue() and uuid7() plan their statements once for each session, and no longer at every call.
-- works_with: 1

-- PostgreSQL before 18 plans the body of a function in SQL anew for each statement that calls it. PL/pgSQL keeps its plans.

-- As before. Without a path of its own, whose change is half of the time; so every name says where it is.
create or replace function {schema}.uuid7() returns uuid
language plpgsql volatile
as $$
begin
  return pg_catalog.encode(
    pg_catalog.set_bit(pg_catalog.set_bit(
      overlay(pg_catalog.uuid_send(pg_catalog.gen_random_uuid())
        placing substring(
          pg_catalog.int8send(
            (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) operator(pg_catalog.*) 1000)::pg_catalog.int8
          ) from 3
        ) from 1 for 6),
      52, 1), 53, 1),
    'hex')::pg_catalog.uuid;
end
$$;

-- As before.
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
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- The arguments are called as the columns are: alone, a name is the column, and `enqueue.name` is the argument.
#variable_conflict use_column
declare
  due     timestamptz := coalesce(enqueue.run_at, statement_timestamp()) + coalesce(enqueue.delay, interval '0');
  found   record;
begin
  insert into {schema}.job as j (
    id, state, run_at, queue, priority, task, args, kwargs, max_attempts, timeout_s, expires_at, unique_key, headers
  )
  values (
    {schema}.uuid7(),
    case when due > statement_timestamp() then 'scheduled' else 'queued' end::{schema}.job_state,
    due, enqueue.queue, enqueue.priority::smallint, enqueue.task, enqueue.args::text, enqueue.kwargs::text,
    enqueue.max_attempts, enqueue.timeout_s, enqueue.expires_at,
    -- As the library does: an index row could not hold a long one.
    case when length(enqueue.unique_key) > 200
      then encode(sha256(convert_to(enqueue.unique_key, 'UTF8')), 'hex') else enqueue.unique_key end,
    enqueue.headers::text
  )
  on conflict (unique_key) where unique_key is not null do update set unique_key = excluded.unique_key
  returning j.id, j.queue, j.run_at into found;
  if found.run_at < statement_timestamp() + interval '10 seconds' and pg_notification_queue_usage() < 0.5 then
    perform pg_notify('{channel}', found.queue);
  end if;
  return found.id;
end
$$;
