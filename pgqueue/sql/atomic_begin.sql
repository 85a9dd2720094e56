-- Mark the transaction of an atomic task: the mark goes with it, so that finish.sql tells whether it is still the same one.
select pg_backend_pid(), set_config('pgqueue.attempt', %(attempt)s, true)
