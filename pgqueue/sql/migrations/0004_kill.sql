-- A cancel that does not wait for the task: its worker ends the process that runs it. An older worker reads it as a plain one.
-- works_with: 1

alter table {schema}.job add column kill_requested_at timestamptz;
