-- Give running jobs whose worker is unknown a dead one, so that the rescue finds them.
insert into {schema}.worker (id, lease_until, pid, concurrency, state, name, version, app, tasks)
select distinct job.worker, now(), 0, 0, 'dead', 'unknown', '', '', array[]::text[]
from {schema}.job
where job.state = 'running' and job.worker is not null and not exists (select from {schema}.worker where id = job.worker)
on conflict (id) do nothing
