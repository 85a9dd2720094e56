-- Clean the table that changes most; takes no lock that blocks others.
vacuum (analyze) {schema}.job
