-- A question of the doctor's must not become a complaint itself.
select set_config('statement_timeout', '5s', false)
