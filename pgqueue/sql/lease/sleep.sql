-- Say whether this worker is about to block, so that a defer knows which worker to wake.
update {schema}.worker
set sleeping = %(sleeping)s
where id = %(worker)s and state <> 'dead'
