-- Mark the transaction of an atomic task: the mark goes with it, so that finish.sql tells whether it is still the same one.
select set_config('pgqueue.attempt', %(attempt)s, true)
