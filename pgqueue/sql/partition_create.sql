-- Make one day's partition beside its parent.
create table if not exists {schema}.{partition} (like {schema}.{parent} including defaults)
