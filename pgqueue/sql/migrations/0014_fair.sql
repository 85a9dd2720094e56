-- Fair share: gates whose keys take turns, each with a window of the queue that follows the places of the workers.
-- works_with: 1

alter table {schema}.gate
  -- Of a rule by which its keys take turns, as JSON: the keys that have more than one share in code. Null: no such rule.
  add column shares text,
  -- How many shares a person has given to this key.
  add column weight integer check (weight > 0);
