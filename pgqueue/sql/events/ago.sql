-- The moment that lies this many seconds back, by the database's clock.
select now() - %(seconds)s::float8 * interval '1 second' as moment
