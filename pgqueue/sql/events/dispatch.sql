-- Make the jobs of a page of events for each place where subscriptions are; see the function.
select busy, names, events, jobs, is_full, more, due_s
from {schema}.dispatch_events(%(lock_class)s, %(held)s::text[], %(size)s, %(fewest)s, %(few)s, here => %(here)s)
