-- Once for each statement; of one transaction, the server sends it once.
  if found and pg_notification_queue_usage() < 0.5 then
    perform pg_notify('{events_channel}', '');
  end if;
