-- Which database this is: its name, and when our tables were made in it.
select current_database() || ', ' || min(applied_at)
from {schema}.migration
