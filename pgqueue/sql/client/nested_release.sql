-- Keep that part.
release savepoint pgqueue
