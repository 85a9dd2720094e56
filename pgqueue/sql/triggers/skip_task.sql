-- Changes that the task itself makes do not call it again.
  if current_setting('pgqueue.origin', true) = {task} or exists (
    select
    from {schema}.job
    where id = nullif(split_part(current_setting('pgqueue.attempt', true), ':', 1), '')::uuid and task = {task}
  ) then
    return null;
  end if;
