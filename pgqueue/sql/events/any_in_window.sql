-- Whether a window has events, of any type.
select exists (
  select
  from {window}
) as found
