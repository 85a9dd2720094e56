-- Deploys in steps: which code a worker runs, and since when a job waits for one whose code can take it.
-- works_with: 1

-- Workers with the same tasks of the same signatures have the same; null of those that were there before.
alter table {schema}.worker add column code text;

-- Null until a worker gives it back because its code does not take these arguments.
alter table {schema}.job add column handed_back_at timestamptz;
