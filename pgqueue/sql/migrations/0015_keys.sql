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
      hidden  constant int4multirange := '{
        [1,31],[127,160],[173,173],[1536,1541],[1564,1564],[1757,1757],[1807,1807],[2192,2193],[2274,2274],
        [5760,5760],[6158,6158],[8192,8207],[8232,8239],[8287,8292],[8294,8303],[12288,12288],[57344,63743],
        [65279,65279],[65529,65531],[69821,69821],[69837,69837],[78896,78911],[113824,113827],
        [119155,119162],[917505,917505],[917536,917631],[983040,1048573],[1048576,1114109]}';
      rule    constant text := split_part(enqueue.key, '=', 1);
      rest    constant text := substr(enqueue.key, length(rule) + 2);
      -- Whether such a character is in the limit, and in the key. Of other encodings a server may not tell what is not ASCII.
      wrong   constant boolean[] := array(
        select coalesce(bool_or(
          hidden @> case when octet_length(letter) = 1 or getdatabaseencoding() = 'UTF8' then ascii(letter) end
        ), false)
        from (values (1, rule), (2, rest)) as part (place, written)
        left join lateral unnest(string_to_array(written, null)) as letter on true
        group by place
        order by place
      );
    begin
      -- The longest is `fair:task:` and the name of a task.
      if rule = '' or rule <> btrim(rule) or length(rule) > 138 or wrong[1] then
        raise 'enqueue: this key names no limit: write the limit and the key, as in tenant=42'
          using errcode = 'invalid_parameter_value';
      end if;
      -- As the library does: an index row could not hold a long one.
      wanted := array[case
        when length(rest) > 200 or wrong[2] then rule || '=' || encode(sha256(convert_to(rest, 'UTF8')), 'hex')
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
