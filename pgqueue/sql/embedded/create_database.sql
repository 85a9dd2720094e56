-- Make the project's database; runs once, right after initdb.
create database pgqueue
