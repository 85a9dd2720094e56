-- Commit it, or end it if a statement in it has failed.
commit
