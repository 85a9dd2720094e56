-- The process that really serves this session; a pooler hides it.
select pg_backend_pid()
