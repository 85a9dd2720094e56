-- Drop the schema of a run.
drop schema if exists {schema} cascade
