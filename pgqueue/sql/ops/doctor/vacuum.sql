-- Clean the table that changes most; takes no lock that stops anybody.
vacuum (analyze) {schema}.job
