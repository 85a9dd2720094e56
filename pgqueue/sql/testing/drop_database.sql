-- Remove the database of a test together with its sessions.
drop database if exists "{name}" with (force)
