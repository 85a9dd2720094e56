-- Begin a part of a caller's transaction that is rolled back as a whole if it fails.
savepoint pgqueue
