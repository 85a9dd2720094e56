-- Roll that part back, with the locks it took.
rollback to savepoint pgqueue_keys
