-- Of the events: those that a lane wants, up to a place if it is given.
(
  (%(until)s::bigint is null or event.seq <= %(until)s::bigint)
  -- Not event_matches: a window may have a million events.
  and event.type like any (%(likes)s::text[])
  -- The sign bit is cut off: the rest of a division keeps the sign.
  and (
    %(lanes)s = 1
    or mod(
      case when event.key = '' then event.seq else hashtextextended(event.key, 0) & 9223372036854775807 end,
      %(lanes)s
    ) = %(lane)s
  )
  and (%(from_at)s::timestamptz is null or event.at >= %(from_at)s::timestamptz)
)
