-- Where to cut a large window into pieces: sorted once, not for each piece.
select seq
from (
  select event.seq, row_number() over (order by event.seq) as nth
  from {window}
) as counted
where mod(nth, %(piece)s) = 0
order by seq
