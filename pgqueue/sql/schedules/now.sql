-- The clock that schedules go by.
select statement_timestamp() as now
