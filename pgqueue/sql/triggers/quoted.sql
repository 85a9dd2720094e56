-- Texts as SQL writes them, quoted by the server: as literals and as names.
select quote_literal(text) as literal, quote_ident(text) as name
from unnest(%(texts)s::text[]) with ordinality as given (text, place)
order by place
