-- Note that a migration was applied.
insert into {schema}.migration (version, name) values ({version}, '{name}');
