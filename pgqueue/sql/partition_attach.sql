-- Join one day's partition to its parent.
alter table {schema}.{parent} attach partition {schema}.{partition} for values from ('{first}') to ('{next}')
