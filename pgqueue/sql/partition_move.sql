-- Rows that came before their partition did lie in the rest; they move over, or it could not be attached.
with late as (
  delete from {schema}.{rest}
  where {day_column} >= '{first}' and {day_column} < '{next}'
  returning *
)
insert into {schema}.{partition}
select * from late
