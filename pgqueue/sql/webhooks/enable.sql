-- Send to an endpoint again, first what has waited.
with enabled as (
  update {schema}.webhook set disabled_at = null, why = null
  where name = %(name)s and disabled_at is not null
  returning name
),
resumed as (
  update {schema}.subscription set paused_at = null
  where name = %(subscription)s and exists (select from enabled)
)
select name from enabled
