-- Load many events, in the order given.
copy {schema}.event (id, type, key, payload, headers) from stdin
