-- Where names without a schema belong, unless a database, a role or a session says otherwise. PostgreSQL's own default begins with
-- the schema called like the role, and ours is.
alter role all set search_path = public
