-- The moment this many seconds ago, by the database's clock.
select now() - %(seconds)s * interval '1 second' as moment
