-- A notification for each row. NOTIFY takes fewer than 8,000 bytes: what is longer is kept, and its id is sent.
  declare
    sent  bigint;
  begin
    with row_of as materialized (
      select ({said})::text as payload, {schema}.uuid7() as id
      from {rows}
      where pg_notification_queue_usage() < 0.5 and ({condition})
    ), kept as (
      insert into {schema}.notice (id, payload)
      select id, payload
      from row_of
      where octet_length(payload) > 7500
    )
    select count(pg_notify(
      {their_channel}, case when octet_length(payload) > 7500 then format('{"$pgqueue":"%s"}', id) else payload end
    ))
    into sent
    from row_of;
  end;
