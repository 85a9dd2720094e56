-- Keys of limits in SQL are what they are in Python.
-- works_with: 1

-- As before. key: the gate that the job has to pass, as in `tenant=42`, called as the library calls it: a key that is long or holds
-- what cannot be shown is hashed. One that names no limit is refused, as no worker would ever let the job through.
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
  headers       jsonb default null,
  key           text default null
) returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- The arguments are called as the columns are: alone, a name is the column, and `enqueue.name` is the argument.
#variable_conflict use_column
declare
  due     timestamptz := coalesce(enqueue.run_at, statement_timestamp()) + coalesce(enqueue.delay, interval '0');
  wanted  text[];
  found   record;
begin
  if enqueue.key is not null then
    declare
      -- What Python calls not printable, but for what no character is assigned to: that differs between its versions.
      hidden  constant text := E'[\\u0001-\\u001f\\u007f-\\u00a0\\u00ad\\u0600-\\u0605\\u061c\\u06dd\\u070f\\u0890-\\u0891\\u08e2\\u1680'
        '\\u180e\\u2000-\\u200f\\u2028-\\u202f\\u205f-\\u2064\\u2066-\\u206f\\u3000\\ue000-\\uf8ff\\ufeff'
        '\\ufff9-\\ufffb\\U000110bd\\U000110cd\\U00013430-\\U0001343f\\U0001bca0-\\U0001bca3'
        '\\U0001d173-\\U0001d17a\\U000e0001\\U000e0020-\\U000e007f\\U000f0000-\\U000ffffd\\U00100000-\\U0010fffd]';
      rule    constant text := split_part(enqueue.key, '=', 1);
      rest    constant text := substr(enqueue.key, length(rule) + 2);
    begin
      -- The longest is `fair:task:` and the name of a task.
      if rule = '' or rule <> btrim(rule) or length(rule) > 138 or rule ~ hidden then
        raise 'enqueue: this key names no limit: write the limit and the key, as in tenant=42'
          using errcode = 'invalid_parameter_value';
      end if;
      -- As the library does: an index row could not hold a long one.
      wanted := array[case
        when length(rest) > 200 or rest ~ hidden then rule || '=' || encode(sha256(convert_to(rest, 'UTF8')), 'hex')
        else enqueue.key
      end];
    end;
  end if;
  insert into {schema}.job as j (
    id, state, run_at, queue, priority, task, args, kwargs, max_attempts, timeout_s, expires_at, unique_key, headers,
    gates, gate
  )
  values (
    {schema}.uuid7(),
    case when due > statement_timestamp() then 'scheduled' when wanted is not null then 'waiting' else 'queued' end::{schema}.job_state,
    due, enqueue.queue, enqueue.priority::smallint, enqueue.task, enqueue.args::text, enqueue.kwargs::text,
    enqueue.max_attempts, enqueue.timeout_s, enqueue.expires_at,
    -- As the library does: an index row could not hold a long one.
    case when length(enqueue.unique_key) > 200
      then encode(sha256(convert_to(enqueue.unique_key, 'UTF8')), 'hex') else enqueue.unique_key end,
    enqueue.headers::text,
    wanted,
    case when wanted is not null then 0 end
  )
  on conflict (unique_key) where unique_key is not null do update set unique_key = excluded.unique_key
  returning j.id, j.queue, j.run_at into found;
  if found.run_at < statement_timestamp() + interval '10 seconds' and pg_notification_queue_usage() < 0.5 then
    perform pg_notify('{channel}', found.queue);
  end if;
  return found.id;
end
$$;
