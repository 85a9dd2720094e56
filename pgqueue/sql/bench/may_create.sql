-- Who we are, where, and whether we may make a schema here.
select current_user::text, current_database()::text, has_database_privilege(current_database(), 'create')
