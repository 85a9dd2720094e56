-- Settings of a session that is not ours alone with which our statements would do something else: (name, value, what we need).
select known.name, known.setting, wanted.value as wanted
from (
  values
    -- A null in a list of errors would arrive as the word NULL.
    ('array_nulls', 'on')
) as wanted (name, value)
join pg_catalog.pg_settings as known on known.name operator(pg_catalog.=) wanted.name
where known.setting operator(pg_catalog.<>) wanted.value
