-- Send nothing more to an endpoint. Its events wait, as of any subscription that is paused.
with disabled as (
  update {schema}.webhook set disabled_at = now(), why = %(why)s
  where name = %(name)s and disabled_at is null
  returning name
),
paused as (
  update {schema}.subscription set paused_at = now()
  where name = %(subscription)s and paused_at is null and exists (select from disabled)
)
select name from disabled
