-- Note that a migration was applied, and what code it leaves running, for which the first one has no column yet.
insert into {schema}.migration
select *
from jsonb_populate_record(
  null::{schema}.migration,
  jsonb_build_object('version', {version}, 'name', '{name}', 'applied_at', now(), 'works_with', {works_with})
);
