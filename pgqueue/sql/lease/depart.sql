-- Sign a worker out; what it still holds is released before this.
delete from {schema}.worker
where
  id = %(worker)s
  and not exists (select from {schema}.job where job.worker = %(worker)s and job.state = 'running')
