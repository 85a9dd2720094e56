-- Nothing: a connection without autocommit opens its transaction with its first statement.
select
