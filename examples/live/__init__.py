"""A page that follows a table, whoever changes it: trigger, event, server-sent event."""
