-- Begin a part of a bulk insert that may have to be taken back.
savepoint pgqueue_keys
