-- Remove every job and what is known of queues; workers keep their leases. In tests these tables are small: to truncate takes longer.
delete from {schema}.job;
delete from {schema}.history;
delete from {schema}.attempt;
delete from {schema}.queue;
delete from {schema}.throughput;
delete from {schema}.awaited;
delete from {schema}.audit;
