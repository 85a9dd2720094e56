-- Deliver no more events to a subscription, or deliver them again. What was published meanwhile waits in the log.
update {schema}.subscription
set paused_at = case when %(paused)s then coalesce(paused_at, now()) end
where name = %(name)s
returning name
