-- Have the gates looked at that replaced jobs were past. What those were is read as it was before this statement; `distinct` wants all
-- of them, so they are written by the time that one who waits there is marked: it may be one of them.
freed as (
  select distinct held.gate
  from inserted
  cross join lateral (
    select gates, gate
    from {schema}.job
    where id = inserted.id
    limit 1
  ) as before
  cross join lateral unnest(before.gates) with ordinality as held (gate, place)
  where before.gate > held.place
),
