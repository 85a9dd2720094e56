-- Keep that part.
release savepoint pgqueue_keys
