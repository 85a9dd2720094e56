-- Which server this is: another after a fail-over, or the same on another timeline.
select system_identifier || ' ' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
from pg_control_system()
