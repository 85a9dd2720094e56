-- The database's day, and how many rows came before their day's partition was there (counted up to a thousand each).
select
  (now() at time zone 'utc')::date as today,
  (select count(*)::integer from (select from {schema}.history_succeeded_rest limit 1000) as found)
  + (select count(*)::integer from (select from {schema}.history_ended_rest limit 1000) as found)
  + (select count(*)::integer from (select from {schema}.attempt_rest limit 1000) as found) as rest
