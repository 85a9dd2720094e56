-- Who we are, where, and whether we may make a schema here.
select
  current_user::text as role, current_database()::text as database,
  has_database_privilege(current_database(), 'create') as allowed
