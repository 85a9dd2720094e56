-- Changes that jobs make are not reported.
  if coalesce(nullif(current_setting('pgqueue.origin', true), ''), nullif(current_setting('pgqueue.attempt', true), '')) is not null then
    return null;
  end if;
