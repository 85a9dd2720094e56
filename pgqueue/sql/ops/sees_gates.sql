-- Whether this role may read which gates a job has to pass: a key may be somebody's name.
select has_column_privilege('{schema}.job', 'gates', 'select')
