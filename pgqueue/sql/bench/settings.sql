-- The server's version, and the settings on which its speed depends most.
select name, concat(setting, unit) as value
from pg_settings
where name in (
  'server_version', 'fsync', 'synchronous_commit', 'synchronous_standby_names', 'full_page_writes', 'wal_level',
  'shared_buffers', 'max_wal_size', 'max_connections'
)
order by name
