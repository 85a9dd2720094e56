-- Wait for no lock longer than this: while a migration waits for one, everybody else queues up behind it.
set local lock_timeout = '500ms'
