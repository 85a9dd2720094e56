-- Wait no longer than this for any lock, in this session.
set lock_timeout = '1s'
