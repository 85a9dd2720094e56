 and (
      -- Workers know of a job that was there before, and look when it would have been due; not of one that is due by now.
      run_at <= statement_timestamp()
      or not exists (select from {schema}.job where job.id = inserted.id)
    )
