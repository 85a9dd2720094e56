"""Our tables in the database: is the schema there, does it fit this code, how is it brought up to date and kept small."""

from pgqueue.schema.upgrade import check, migrate, newest, remembered, roles_script, script, script_of

__all__ = ["check", "migrate", "newest", "remembered", "roles_script", "script", "script_of"]
