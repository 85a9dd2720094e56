-- Begin a part of a bulk insert that may have to be rolled back.
savepoint pgqueue_keys
