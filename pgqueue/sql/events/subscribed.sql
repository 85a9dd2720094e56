-- Whether there is a subscription that gets a job for each event.
select exists (select from {schema}.subscription where mode = 'job') as subscribed
