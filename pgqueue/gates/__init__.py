"""Gates: how many jobs may be under way at once, in which order, and how fast.

A job with limits names the gates that it has to pass, at most two. It is born `waiting` before the first, and a worker lets it
through from one to the next, until it is `queued` like any other: what claims jobs sees none that waits, and jobs without limits
none of this.

How many are past a gate is counted from the rows of jobs each time, under a lock of that gate, and kept nowhere. So nothing can
leak: whatever ends a job, or takes its row away, frees its place without knowing of gates. Only `admit.sql` moves a job forward; it
holds the gate's lock, and its snapshot is taken while it does, so it sees all that was let through before.

Who looks at a gate, and when:

* The finish of a job that holds places lets the next ones through, in the same transaction.
* A job that nobody has looked at (`gate = 0`) is found by the next look at the heads of the queue, as soon as it is committed.
* A job that waits was looked at while its gate was full, so somebody holds the place that it waits for, and will finish.
* Locks are only tried. A gate whose lock another session holds is looked at again 10 ms later, at last every 100 ms.
* Cancel, purge, and a call with limits that replaces a job, mark the first one that waits as not looked at. What is left, such as a
  worker that died owing a look, or a row that was deleted by hand, is found by the sweep: after each rescue, and every 15 seconds
  by one worker. While a worker of a version before gates lives, whose finish lets nobody through, it is made each second.

A breaker closes the gate of its task (`trip.sql`), as a person does; jobs past it that have not started then wait there again
(`recall.sql`). After that the gate is half-open: its row names one job that was let through as a trial, and what has become of it
is read from its row at each look, in admit.sql, under the lock of the gate. So the next worker that looks can tell, even if the one
that ran the trial has died.

Nothing waits for a lock here, so nothing can deadlock. A job passes narrow gates before wide ones (a key, then a task, then a
queue), so one that waits for its key takes no place of its queue. The gate of an order comes before all: who is at the head of the
line waits for the other limit there, and is not passed by those behind.
"""
