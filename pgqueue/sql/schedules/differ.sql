-- Note what the code declares where a person has changed the schedule.
update {schema}.schedule set fingerprint = %(fingerprint)s where name = %(name)s and source = 'person'
