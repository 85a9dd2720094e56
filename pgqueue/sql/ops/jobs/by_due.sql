-- Those that fall due last come first: at the other end there are rows that have gone.
  select id, queue, task, created_at from {schema}.job where state = 'scheduled' order by run_at desc
