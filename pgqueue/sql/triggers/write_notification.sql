-- A notification for each row. One that is too long for NOTIFY would fail the statement that changes the table, so it says less.
  perform pg_notify({their_channel}, case
    when octet_length(said::text) <= 7500 then said
    when octet_length(in_short::text) <= 7500 then in_short
    else jsonb_build_object('op', in_short -> 'op')
  end::text)
  from (
    select {said} as said, {in_short} as in_short
    from {rows}
    where {condition}
  ) as row_of
  where pg_notification_queue_usage() < 0.5;
