-- Plan prepared statements anew at each execution, for this session.
set plan_cache_mode = force_custom_plan
