-- The other users of the server: the clients connected now, and how many sessions there have ever been. The second number
-- shows clients that come and go between two looks, such as a web process that connects once per request.
select
  (
    select count(*)
    from pg_stat_activity
    where backend_type = 'client backend'
      and pid <> pg_backend_pid()
  ) as clients,
  (
    select coalesce(sum(sessions), 0)::bigint
    from pg_stat_database
  ) as sessions
