"""What may hurt the queue, each with its cure: the server is asked, this module judges, and mends what is safe to mend."""

from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

from pgqueue.config import NOTIFY_SHARE, Config
from pgqueue.db import Wire
from pgqueue.job import State
from pgqueue.queries import Queries, Steps, ask
from pgqueue.queries.doctor import Backlog, DeadRows, Era, ServerSettings, ShutGate, SnapshotHolder
from pgqueue.queries.events import SubscriptionState
from pgqueue.queries.schedules import ScheduleRow
from pgqueue.queries.schema import Stranger
from pgqueue.schema.retention import tidy_partitions
from pgqueue.schema.upgrade import check, strangers

OLD_S = 300.0  # a transaction of five minutes: dead rows of a busy queue pile up to a million behind it
DEAD_ROWS = 50_000  # ten times what autovacuum is told to clean after
SHORTEST_S = 10.0  # a timeout below this ends statements that the queue needs
SPARE = 10  # connections
OVERDUE_S = 120.0  # for which a schedule is due: far more than a worker's heartbeats
CLOSED_S = 3600.0  # seconds that a gate may be closed while jobs wait there
GATES_SEEN, JOBS_COUNTED = (
    200,
    100,
)  # jobs of each gate: 20,000 at most are counted, of those where there is something to say
BEHIND_S = 3600.0  # seconds that a subscription may be behind
OLDEST_MAJOR = 14
FIX = "`pgqueue doctor --fix`"


class Finding(NamedTuple):
    """problem: a promise is broken or about to be. Else: worth knowing."""

    problem: bool
    what: str
    cure: str


def examine(queries: Queries, config: Config, *, wire: Wire) -> Steps[list[Finding]]:
    """Look at everything, over a connection that its client sees as `wire`. Raises SchemaError."""
    yield from check(queries, schema=config.schema)
    (server,) = yield from ask(queries.doctor_server())
    yield queries.doctor_deadline()
    found = [*_server(server), *_promises(server), *_timeouts(server), *_way(wire)]
    if server.backend_pid != wire.backend_pid:
        found.append(Finding(False, "a connection pooler sits in front of the database", _POOLER))
    found += map(_uncleaned, (yield from ask(queries.doctor_snapshots(older_s=OLD_S))))
    found += map(_dead_rows, (yield from ask(queries.doctor_tables(more_than=DEAD_ROWS))))
    found += yield from _partitions(queries)
    found += _strangers((yield from strangers(queries)), schema=config.schema)
    found += yield from _leases(queries)
    found += map(_waiting, (yield from ask(queries.doctor_backlog())))
    gates = queries.doctor_gates(closed_s=CLOSED_S, limit=GATES_SEEN, count_limit=JOBS_COUNTED)
    found += map(_shut_gate, (yield from ask(gates)))
    (era,) = yield from ask(queries.doctor_era())
    found += _era(era)
    for state in (yield from ask(queries.subscription_states())):
        found += _subscription(state)
    for schedule in (yield from ask(queries.schedules())):
        found += _schedule(schedule)
    return sorted(found, key=lambda finding: not finding.problem)


_POOLER = "give workers a direct connection: behind a pooler they poll and recover within 35 s instead of 5"


def _server(server: ServerSettings) -> Iterator[Finding]:
    if server.version < OLDEST_MAJOR * 10_000:
        yield Finding(True, f"PostgreSQL {server.version // 10_000} is too old", f"upgrade to {OLDEST_MAJOR} or later")
    if server.encoding != "UTF8":
        yield Finding(True, f"the database's encoding is {server.encoding}", "recreate it with encoding UTF8")
    if server.in_recovery:
        yield Finding(
            True,
            "this is a standby: nothing can be written",
            "connect to the primary (target_session_attrs=read-write)",
        )
    if server.notify_share > NOTIFY_SHARE:
        cure = "end the session that listens and is idle in a transaction (pg_stat_activity, the oldest xact_start)"
        yield Finding(True, f"the notify queue is {server.notify_share:.0%} full; when it is full, commits fail", cure)
    if server.allowed - server.sessions < SPARE:
        yield Finding(
            False,
            f"{server.sessions} of {server.allowed} connections are taken",
            "raise max_connections, or use smaller pools",
        )


def _subscription(state: SubscriptionState) -> Iterator[Finding]:
    name, again = state.name, f"`pgqueue subscription replay {state.name} --from begin --in-place`"
    if state.lost:
        what = f"subscription {name} lost {state.lost} events, which were dropped after keep_events_days_at_most"
        yield Finding(True, what, f"read what it needs elsewhere, then {again} or drop it: both forget the count")
    if state.stopped:
        what = f"subscription {name}: {state.why}"
        yield Finding(
            True, what, f"see to it by `pgqueue subscription aside {name}`, then `pgqueue subscription start {name}`"
        )
    if state.behind and not state.known:
        what = f"no live worker has the task of subscription {name}: its jobs pile up"
        yield Finding(False, what, f"start one that has, or `pgqueue subscription drop {name}`")
    elif state.behind and (state.behind_s or 0.0) > BEHIND_S:
        why = " and paused" if state.paused else f" ({state.error})" if state.error else ""
        hours = f"{(state.behind_s or 0.0) / 3600:.0f} h"
        what = f"subscription {name} is {hours} behind{why}: its events are kept, and so is their day"
        yield Finding(False, what, f"resume it, see to its readers, or `pgqueue subscription drop {name}`")


def _schedule(row: ScheduleRow) -> Iterator[Finding]:
    name = row.name
    if row.stopped_at is not None:
        cure = f"start a worker whose code declares it, or `pgqueue cron remove {name}`"
        yield Finding(False, f"schedule {name} is stopped: no live worker declares it", cure)
        return
    if row.error is not None:
        cure = f"correct it in the code or by `pgqueue cron set {name}`, or `pgqueue cron pause {name}`"
        yield Finding(True, f"schedule {name} could not make its last job: {row.error}", cure)
    late_s = 0.0 if row.next_run_at is None else (row.now - row.next_run_at).total_seconds()
    if late_s > OVERDUE_S:
        cure = "start a worker; where one runs, its log says why it leaves the schedule alone"
        yield Finding(True, f"schedule {name} has been due for {late_s / 60:.0f} min", cure)
    if row.source == "person" and row.fingerprint is not None:
        what = f"schedule {name} was changed by a person, and the code says otherwise"
        yield Finding(False, what, f"`pgqueue cron reset {name}`, or say it in the code too")


def _era(era: Era) -> Iterator[Finding]:
    """A new one waits for the end of all transactions that use the log, and then for a reader."""
    if era.over:
        what = "the log of events was restored from a dump, and its new era has not begun: no event is delivered"
        hindered = f"end the transaction of session {', '.join(era.users)}" if era.users else ""
        yield Finding(True, what, hindered or "start a worker, a relay or a loop: it begins the era")


def _uncleaned(holder: SnapshotHolder) -> Finding:
    age = f" for {holder.seconds / 60:.0f} min" if holder.seconds is not None else ""
    return Finding(True, f"{holder.who} keeps dead rows from being cleaned{age}", f"end it: {holder.cure}")


def _dead_rows(table: DeadRows) -> Finding:
    age_s = table.vacuumed_s
    last = "never vacuumed" if age_s is None else f"vacuumed {age_s / 60:.0f} min ago"
    what = f"table {table.name}: {table.dead} dead rows and {table.live} live ones, {last}"
    return Finding(False, what, f"{FIX} vacuums it")


def _way(wire: Wire) -> Iterator[Finding]:
    """Whether others on the network can read what we send, or answer instead of the server."""
    if not wire.host or wire.host.startswith(("/", "@", "127.")) or wire.host in ("localhost", "::1"):
        return
    if not wire.encrypted:
        yield Finding(
            False, f"the connection to {wire.host} is not encrypted: arguments can be read on the way", _VERIFY
        )
    elif not wire.sslmode.startswith("verify-"):
        yield Finding(False, f"sslmode={wire.sslmode} does not check who answers as {wire.host}", _VERIFY)


_VERIFY = "set sslmode=verify-full (and sslrootcert, =system for a public authority) in the DSN"


def _promises(server: ServerSettings) -> Iterator[Finding]:
    if server.fsync != "on":
        yield Finding(True, "fsync is off: a crash of the machine may lose or destroy everything", "set fsync = on")
    if server.full_page_writes != "on":
        yield Finding(
            True, "full_page_writes is off: a crash of the machine may destroy tables", "set full_page_writes = on"
        )
    if server.synchronous_commit == "off":
        yield Finding(
            True,
            "synchronous_commit is off: a crash of the server loses the most recent jobs",
            "set it to on, or local",
        )
    if server.autovacuum != "on":
        yield Finding(True, "autovacuum is off: a queue's tables grow without limit", "set autovacuum = on")


def _timeouts(server: ServerSettings) -> Iterator[Finding]:
    for name, seconds in (
        ("statement_timeout", server.statement_timeout_s),
        ("lock_timeout", server.lock_timeout_s),
        ("transaction_timeout", server.transaction_timeout_s),
        ("idle_session_timeout", server.idle_session_s),
        ("idle_in_transaction_session_timeout", server.idle_in_transaction_s),
    ):
        if seconds and seconds < SHORTEST_S:
            cure = f"alter role ... set {name} = 0 for the role that workers use"
            yield Finding(False, f"{name} is {seconds:g} s: it ends statements and sessions that workers need", cure)


def _strangers(found: list[Stranger], *, schema: str) -> Iterator[Finding]:
    """Others' tables in our schema by no choice of theirs: the next one may have the name of one of ours."""
    names = [stranger.name for stranger in found if stranger.is_by_default]
    if names:
        told = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
        cure = (
            f"move it (alter table {schema}.{names[0]} set schema public), then let new ones go there too (alter database ... set "
            "search_path = public)"
        )
        yield Finding(False, f"the schema {schema} holds what pgqueue did not create: {told}", cure)


def _partitions(queries: Queries) -> Steps[list[Finding]]:
    (days,) = yield from ask(queries.doctor_days())
    there = {day.partition for day in (yield from ask(queries.partitions()))}
    wanted = {f"history_succeeded_{days.today + timedelta(days=ahead):%Y%m%d}" for ahead in (0, 1)}
    found = []
    if missing := sorted(wanted - there):
        found.append(Finding(False, f"no partition for {', '.join(missing)}: no worker has created it", FIX))
    if days.rest:
        found.append(Finding(False, f"{days.rest} rows are outside of their day's partition", FIX))
    return found


def chores(queries: Queries, config: Config) -> Steps[None]:
    """What a worker does once an hour. The doctor tries it in a transaction that is rolled back, to learn why it fails."""
    yield queries.doctor_deadline()
    yield from queries.each("schema/citus")
    yield queries.prune()
    yield from tidy_partitions(queries, config)


def chores_fail(reason: str) -> Finding:
    """reason: in the server's own words."""
    cure = "fix the cause; until then no partitions are created and no old ones dropped"
    return Finding(True, f"the hourly chores of a worker fail: {reason}", cure)


def _leases(queries: Queries) -> Steps[list[Finding]]:
    (leases,) = yield from ask(queries.doctor_leases())
    found = []
    if not leases.live:
        found.append(Finding(True, "no worker is alive", "start one with `pgqueue worker`"))
    if leases.expired:
        found.append(
            Finding(False, f"{leases.expired} leases of workers have expired, and no other worker has noticed", FIX)
        )
    if leases.orphans:
        what = f"{leases.orphans} running jobs belong to workers that are gone"
        found.append(Finding(True, what, f"{FIX} rescues them"))
    return found


def _waiting(backlog: Backlog) -> Finding:
    name, jobs = backlog.name, backlog.jobs
    match backlog.what:
        case "paused":
            return Finding(False, f"queue {name} is paused with {jobs} jobs", f"`pgqueue resume {name}`")
        case "queue":
            return Finding(
                True, f"no live worker serves queue {name} with {jobs} jobs", "start one with -Q, or without"
            )
        case _:
            return Finding(
                True,
                f"no live worker knows task {name}, of which {jobs} jobs are waiting",
                "deploy its code, or check the name",
            )


def _shut_gate(gate: ShutGate) -> Finding:
    name, jobs = gate.name, f"{gate.jobs}{' or more' if gate.capped else ''} jobs"
    match gate.what:
        case "closed":
            by = f" by {gate.who}" if gate.who else ""
            what = f"the gate {name} has been closed{by} for {(gate.seconds or 0) / 3600:.0f} h, and {jobs} wait there"
            return Finding(False, what, f"`pgqueue resume {name}`")
        case "none":
            cure = f"`pgqueue limit {name} N`, or `pgqueue limit {name} code` for what the code says"
            return Finding(False, f"the limit {name} is 0, and {jobs} wait there", cure)
        case _:
            what = f"no worker has declared the limit {name}, and {jobs} wait there"
            return Finding(True, what, f"start one whose code has it, or `pgqueue limit {name} N`")


def mend(queries: Queries, config: Config, *, crash_cap: int, grace_s: float) -> Steps[list[str]]:
    """Mend what is safe to mend: partitions, old counters, the jobs of workers that are gone. Runs in one transaction."""
    done = []
    yield from tidy_partitions(queries, config)
    yield queries.prune()
    done.append("partitions and counters are up to date")
    yield queries.doctor_adopt()
    if gone := (yield from ask(queries.doctor_gone())):
        buried = yield from ask(queries.bury(gone, grace_s=grace_s))
        (rescued,) = yield from ask(queries.rescue(gone, crash_cap=crash_cap))
        done.append(
            f"{len(buried)} workers declared dead, {rescued.returned} jobs rescued, "
            f"{rescued.ended} {State.DEAD} or {State.CANCELLED}"
        )
    return done


def vacuum(queries: Queries) -> Steps[str]:
    """Vacuum the table of jobs, outside of any transaction; returns what was done."""
    (allowed,) = yield from ask(queries.doctor_may_vacuum())
    if not allowed:
        return "the table of jobs is left to autovacuum: only its owner may vacuum it"
    yield queries.doctor_vacuum()
    return "the table of jobs is vacuumed"
