-- The workers whose lease has expired, or that are dead.
select id::text from {schema}.worker where state = 'dead' or lease_until < now()
