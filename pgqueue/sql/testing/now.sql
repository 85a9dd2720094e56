-- The clock, which continues within a transaction; as text, in the one way that Python reads whatever the session's DateStyle is.
select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US"+00:00"') as now
