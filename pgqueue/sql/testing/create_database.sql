-- Make a database for tests.
create database "{name}" template "{template}"
