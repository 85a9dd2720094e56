"""How one worker runs: what the command line said, and the times by which supervisors live and die."""

from dataclasses import dataclass

HEARTBEAT_S = 1.5  # renews the lease and looks at the others, in one statement: two thirds of one a second
# Every third heartbeat also asks when jobs fall due: soon enough for those that rang no bell, which are due in 10 s or more.
HEARTBEAT_ASKS_JOBS_S = 4.0
LEASE_S = 15.0  # no worker is presumed dead before, unless its session is gone
POOLED_LEASE_S = 30.0  # behind a transaction pooler the lease is all there is
# A session may be gone this long: more than the longest pause between two attempts to reconnect, and a little less than
# two heartbeats, so that the second look after the first suspicion decides. Measured with 3.0: up to 5.5 s to a rescue.
GRACE_S = 2.9
# A worker that judges others must have been heard itself within this time: two heartbeats and a deadline, so that a late one does
# not put off a rescue; less than a lease, so that no worker judges just after a pause of the whole server.
FRESH_S = 5.0
RECONNECT_MAX_S = 1.0
# A worker that had to reconnect judges no other by a lost session before: the others may have to try a host that does not answer,
# CONNECT_TIMEOUT_S long and perhaps twice, before they come to the new primary.
SETTLE_S = 10.0
TELL_S = 10.0  # one error is logged this often: a worker has three parts that meet the same one, each twice a second
BEAT_DEADLINE_S = 2.0  # a frozen server keeps the connection open and says nothing
DEADLINE_S = 30.0  # for every other round trip: longer than a checkpoint's stall, shorter than a lease behind a pooler
STOP_CLAIMING_S = 6.0  # without a confirmed heartbeat

POLL_S = 5.0  # the floor under LISTEN
POLL_ALONE_S = 1.0  # without LISTEN
EVENTS_POLL_S = 15.0  # the same two for the log of events, where there are subscriptions
EVENTS_POLL_ALONE_S = 1.0
FALSE_ALARMS = 20  # a second: a worker that hears more needless bells stops listening
UNLISTENED_S = 10.0  # for this long
UNLISTENED_POLL_S = 0.2  # and polls this often instead: measured 0.5 % of a core, whatever the flood
CRASH_CAP = 3  # a job that took its process down this often is quarantined

FRAME_JOBS = 100  # measured: 10 to 50 a frame double the throughput of one at a time; on two cores 100 add 4 %
FRAME_BYTES = 1_000_000  # of arguments: each byte is copied four times on its way
FRAME_S = 0.002  # a frame holds no more work than this, so that nothing waits long behind a job that turns out slow
FAST_S = 0.001  # only tasks that run shorter than this on average share frames
STUCK_S = 0.1  # unstarted jobs behind a running one are taken back after this
BLOCKED_S = 1.0  # an event loop that does not turn for so long is worth a warning
CLAIM_MAX = 1000  # 11 us a job: a larger statement only adds latency
TICK_S = 0.05  # how often running jobs are looked at for their time limits
CANCELS_S = 1.0  # how soon a running task hears of a cancel
KILL_GRACE_S = 1.0  # between being asked to stop and being killed, where it was cancelled by force
HARD_GRACE_S = 5.0  # between the soft end of a time limit and the kill
FIRST_START_S = 60.0  # a first import that takes longer is a hang; it may read gigabytes from a cold disk
START_S = 25.0  # a later one may take this long, or START_FACTOR times what the slowest so far took
START_FACTOR = 5.0
START_TRIES = 3  # a worker none of whose children ever started gives up after this many, so that its user sees it
START_GAP_S = 1.0  # between any two tries after a child that failed to start
BACK_OFF_MAX_S = 30.0
EXIT_S = 3.0  # what is registered with atexit may take this long: a last report over the network, not a hang
STARTING_S = 5.0  # a child that has not started by then is not waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `pgqueue worker`."""

    app: str
    concurrency: int
    queues: tuple[str, ...] | None = None
    """None: every queue there is."""
    strict: bool = False
    """The queues in this order, and within each by priority, whatever waits."""
    weights: tuple[int, ...] = ()
    """Of each queue; none: not by weight."""
    threads: int = 1
    async_jobs: int | None = None
    """None: as many at once as the setting of the app says."""
    burst: bool = False
    shutdown_timeout_s: float = 25.0
    """Below the 30 s that Kubernetes and Docker Compose files usually grant."""
    max_tasks_per_child: int | None = None
    max_memory_per_child_mb: float | None = None
    listen: bool = True
    log_level: str | None = None
    """None: info, unless the app's own logging says otherwise."""
    log_format: str = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
