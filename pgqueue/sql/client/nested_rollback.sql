-- Undo that part, and forget where it began.
rollback to savepoint pgqueue;
release savepoint pgqueue
