-- Note which schedules no live worker declares any more, or declares again; stop those that nobody has for an hour.
update {schema}.schedule
set
  undeclared_at = case when name <> all (%(names)s::text[]) then coalesce(undeclared_at, now()) end,
  stopped_at = case
    when name <> all (%(names)s::text[]) and undeclared_at < now() - interval '1 hour' then coalesce(stopped_at, now())
  end
where
  fingerprint is not null
  and case when name = any (%(names)s::text[]) then undeclared_at is not null
    else undeclared_at is null or (stopped_at is null and undeclared_at < now() - interval '1 hour') end
