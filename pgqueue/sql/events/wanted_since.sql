-- Of the events: those since a time, if one is given.
event.at >= coalesce(%(from_at)s::timestamptz, '-infinity')
