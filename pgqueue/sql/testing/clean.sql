-- Empty all tables of ours but that of migrations. By delete: to truncate a handful of rows makes and removes files, and takes longer.
with
jobs as (delete from {schema}.job),
ended as (delete from {schema}.history),
failed as (delete from {schema}.attempt),
workers as (delete from {schema}.worker),
queues as (delete from {schema}.queue),
counted as (delete from {schema}.throughput),
waiters as (delete from {schema}.awaited),
deeds as (delete from {schema}.audit),
periods as (delete from {schema}.period),
events as (delete from {schema}.event),
ticks as (delete from {schema}.tick),
subscriptions as (delete from {schema}.subscription),
readers as (delete from {schema}.event_reader),
gates as (delete from {schema}.gate),
runs as (delete from {schema}.breaker),
paces as (delete from {schema}.pace),
schedules as (delete from {schema}.schedule),
answers as (delete from {schema}.fired),
declarations as (delete from {schema}.declared)
select
