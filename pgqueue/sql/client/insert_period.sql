taken as (
  insert into {schema}.period as held (key, until, job_id)
  select
    %(period_key)s::text,
    case
      when %(aligned)s::boolean
        then to_timestamp((floor(extract(epoch from statement_timestamp())::float8 / every_s) + 1) * every_s)
      else statement_timestamp() + every_s * interval '1 second'
    end,
    %(id)s::uuid
  from (values (%(every_s)s::float8)) as wanted (every_s)
  on conflict (key) do update
    set until = excluded.until, job_id = excluded.job_id
    where held.until <= statement_timestamp()
  returning job_id
),
