-- Dead jobs on a sample of the pages of ended ones; see stats_sample.sql.
select count(*) as jobs
from {schema}.history_ended tablesample system (%(percent)s) repeatable (1)
where state = 'dead'
