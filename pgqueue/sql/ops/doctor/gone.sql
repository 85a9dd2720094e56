-- The workers whose lease ran out, or who are dead.
select id::text from {schema}.worker where state = 'dead' or lease_until < now()
