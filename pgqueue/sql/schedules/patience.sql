-- Wait no longer than this for any lock, in this transaction: a caller may have a unique key in one that stays open.
set local lock_timeout = '1s'
