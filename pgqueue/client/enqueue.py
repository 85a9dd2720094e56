"""How jobs get into the table: rows made of calls and options, and the steps that insert them.

One by one it is a single INSERT that also rings. In bulk it is COPY, which streams rows with bounded memory, unless
they have unique keys: COPY knows no ON CONFLICT, so those go as lists through the same INSERT.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

from pgqueue.client.debounce import debounced
from pgqueue.client.once import Period, once
from pgqueue.client.options import MAX_KEY, Options, span_seconds
from pgqueue.config import Notify
from pgqueue.errors import DuplicateJob
from pgqueue.job import id_bytes, new_id, new_ids
from pgqueue.queries import Queries, Statement, Steps, ask, texts
from pgqueue.queries.client import InsertedRow

# Rows in one statement: about 200 kB of JSON. Calls are taken between statements, never during one, because what makes
# them may use the same connection, and a query during COPY never returns.
CHUNK = 1000
COPY_CHUNK = 10_000  # rows in one COPY: measured a quarter faster than 1,000, and some megabytes of memory

Call = tuple[str, str]  # (args, kwargs) as JSON text


class GatedCall(tuple[str, str]):
    """A call whose job has to pass gates; `gates` are their names."""

    gates: list[str]

    @classmethod
    def of(cls, call: Call, gates: list[str]) -> "GatedCall":
        made = cls(call)
        made.gates = gates
        return made


class Inserted(NamedTuple):
    """Where one call ended up: the id of its job, or of the live one that held its unique key."""

    id: str
    created: bool


class InsertedMany(NamedTuple):
    """Where many calls ended up: 16 bytes of id each, and the positions whose key was taken by a job that was there before."""

    ids: bytes
    found: frozenset[int] = frozenset()


def unique_key(unique: str | bool | None, *, task: str, call: Call) -> str | None:
    """The stored key: as given, or a hash where it would be long."""
    if not unique:
        return None
    if isinstance(unique, str):
        return unique if len(unique) <= MAX_KEY else _digest(unique)
    # Two calls that differ in the order of names are the same.
    return f"{task}:{_digest(*(json.dumps(json.loads(part), sort_keys=True) for part in call))}"


def key_of(options: Options, *, task: str, call: Call) -> str | None:
    """The stored key of one call with these options; calls that are debounced are of one key if they are the same."""
    return unique_key(options.unique or options.debounce is not None, task=task, call=call)


def period_of(options: Options, *, task: str, call: Call) -> Period:
    """The period of one call with these options: calls that are the same have one, unless once_key says otherwise."""
    key = unique_key(options.once_key or True, task=task, call=call)
    assert key is not None
    return Period(key, span_seconds("once_per", options.once_per), bool(options.aligned))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def enqueue_one(
    queries: Queries, task: str, call: Call, *, job_id: str, options: Options, ring: Notify, again: bool = False
) -> Steps[Inserted]:
    """Insert one job and ring; raises DuplicateJob if asked to. again: it may be there already."""
    key = key_of(options, task=task, call=call)
    row: dict[str, Any] = {
        "id": job_id,
        "task": task,
        "args": call[0],
        "kwargs": call[1],
        "unique_key": key,
        **options.columns(where=task),
    }
    if type(call) is GatedCall:
        row["gates"] = call.gates
    if options.once_per is not None:
        held = yield from once(queries, row, period_of(options, task=task, call=call), ring=ring)
        return Inserted(held, created=held == job_id)
    if key is None:
        yield queries.insert_one(row, on_duplicate="same" if again else "none", ring=ring)
        return Inserted(job_id, created=True)
    if options.debounce is not None:
        held = yield from debounced(queries, row, most_s=options.debounce_most_s, ring=ring, again=again)
        return Inserted(held, created=held == job_id)
    (inserted,) = yield from _insert_unique(
        lambda conflict: queries.insert_one(row, on_duplicate=conflict, ring=ring),
        [row],
        queries=queries,
        options=options,
    )
    return inserted


def enqueue_again(
    queries: Queries, task: str, call: Call, *, job_id: str, options: Options, ring: Notify
) -> Steps[Inserted]:
    """As `enqueue_one`, after a try whose answer was lost: the id tells whether it arrived. In a transaction of its own.

    The job may have ended since, so its table alone does not tell. And it may end while we insert: the insert waits for a
    first try that is still under way, so that only a look after it sees all there is.
    """
    if (yield from _ended(queries, job_id)):
        return Inserted(job_id, created=True)
    yield queries.savepoint("begin")
    inserted = yield from enqueue_one(queries, task, call, job_id=job_id, options=options, ring=ring, again=True)
    ended = yield from _ended(queries, job_id)
    yield queries.savepoint("rollback" if ended else "release")
    return Inserted(job_id, created=True) if ended else inserted


def _ended(queries: Queries, job_id: str) -> Steps[bool]:
    return any(end.state is not None for end in (yield from ask(queries.ends([job_id]))))


def enqueue_many(
    queries: Queries, task: str, calls: Iterable[Call], *, options: Options, ring: Notify
) -> Steps[InsertedMany]:
    """Insert any number of jobs; the caller sees to it that the steps run in one transaction.

    In order and streamed, unless they have unique keys: those are held in memory and inserted in the order of the keys.
    """
    columns = options.columns(where=task)
    if not options.unique:
        rest = iter(calls)
        first = list(islice(rest, 1))
        gated = bool(first) and type(first[0]) is GatedCall  # of one task, so all of them are, or none is
        return (yield from _copy(queries, task, chain(first, rest), columns=columns, ring=ring, gated=gated))
    held = list(calls)
    looks = Looks(all_fresh=True)  # the first of a gate may find its unique key taken
    keys = [unique_key(options.unique, task=task, call=call) or "" for call in held]
    # All inserters take their keys in one order, across statements too, or two of them deadlock.
    order = sorted(range(len(held)), key=keys.__getitem__)
    inserted: dict[int, Inserted] = {}
    for start in range(0, len(order), CHUNK):
        indexes = order[start : start + CHUNK]
        rows = [
            {
                "id": new_id(),
                "task": task,
                "args": held[index][0],
                "kwargs": held[index][1],
                "unique_key": keys[index],
                **columns,
                **looks.columns(held[index]),
            }
            for index in indexes
        ]
        jobs = yield from _insert_chunk(queries, rows, options=options, ring=ring)
        inserted.update(zip(indexes, jobs, strict=True))
    found = frozenset(index for index, job in inserted.items() if not job.created)
    return InsertedMany(b"".join(id_bytes(inserted[index].id) for index in range(len(held))), found)


class Looks:
    """Which of many jobs a worker is to look at: of each gate the first, as a look finds those behind it. Due later: all."""

    def __init__(self, *, all_fresh: bool = False) -> None:
        self._seen: set[str] = set()
        self._all_fresh = all_fresh

    def columns(self, call: Call) -> dict[str, Any]:
        """The columns of this job that are about gates, in database units."""
        if type(call) is not GatedCall:
            return {}
        first = call.gates[0]
        fresh = self._all_fresh or first not in self._seen
        self._seen.add(first)
        return {"gates": call.gates, "gate": 0 if fresh else 1}


def _copy(
    queries: Queries, task: str, calls: Iterable[Call], *, columns: dict[str, Any], ring: Notify, gated: bool
) -> Steps[InsertedMany]:
    (clock,) = yield from ask(queries.clock(columns))
    begins = "scheduled" if clock.later else "waiting" if gated else "queued"
    fixed = (
        begins, clock.run_at, clock.expires_at, columns["max_attempts"], columns["timeout_s"], columns["priority"],
        columns["queue"], task,
    )  # fmt: skip
    ids = bytearray()
    rest = iter(calls)
    headers, looks = columns["headers"], Looks(all_fresh=clock.later)
    while chunk := list(islice(rest, COPY_CHUNK)):
        new = new_ids(len(chunk))
        ids += bytes.fromhex("".join(new).replace("-", ""))
        rows: Iterator[Sequence[Any]] = (
            (id_, *fixed, args, kwargs, headers) for id_, (args, kwargs) in zip(new, chunk, strict=True)
        )
        if gated:
            rows = (
                (*row, texts(gates["gates"]), gates["gate"])
                for row, gates in zip(rows, map(looks.columns, chunk), strict=True)
            )
        yield queries.copy(rows, gated=gated)
    if ids and clock.soon:
        yield queries.ring(columns["queue"], ring=ring)
    return InsertedMany(bytes(ids))


def _insert_chunk(
    queries: Queries, rows: Sequence[dict[str, Any]], *, options: Options, ring: Notify
) -> Steps[list[Inserted]]:
    # One statement must not meet a key twice: the first of a key wins, the last when replacing.
    inserted = {row["unique_key"]: row for row in (rows if options.on_duplicate == "replace" else reversed(rows))}
    # Letters as they are: an escape can be read in a database of UTF8 alone.
    text = json.dumps(list(inserted.values()), default=str, ensure_ascii=False)
    return (
        yield from _insert_unique(
            lambda conflict: queries.insert_many(text, on_duplicate=conflict, ring=ring, gated="gates" in rows[0]),
            rows,
            queries=queries,
            options=options,
        )
    )


def _insert_unique(
    insert: Callable[[str], Statement[InsertedRow]],
    rows: Sequence[dict[str, Any]],
    *,
    queries: Queries,
    options: Options,
) -> Steps[list[Inserted]]:
    """Insert rows with unique keys and find, for each, the job that holds its key now.

    The holder of a key may end between the insert that met it and the look for it; then the insert is tried again, all of
    it: to insert the missing key while holding larger ones would be out of order, and deadlock with another that does the same.
    Each round needs another job to be born and to end within a millisecond, so the loop ends.
    """
    conflict = "replace" if options.on_duplicate == "replace" else "ignore"
    wanted = {row["unique_key"] for row in rows}
    many = len(rows) > 1
    while True:
        if many:
            yield queries.savepoint("begin")
        created = {job.unique_key: job.id for job in (yield from ask(insert(conflict)))}
        live = yield from ask(queries.live_by_key(sorted(wanted - created.keys())))
        holders = created | {job.unique_key: job.id for job in live}
        complete = wanted <= holders.keys()
        if many:
            yield queries.savepoint("release" if complete else "rollback")
        if complete:
            break
    ours = {row["id"] for row in rows}
    for row in rows:
        id_ = holders[row["unique_key"]]
        if options.on_duplicate == "raise" and id_ != row["id"]:
            raise DuplicateJob(f"a live job has the unique key {row['unique_key']!r}: {id_}", id_)
    used: set[str] = set()
    inserted = []
    for row in rows:
        id_ = holders[row["unique_key"]]
        inserted.append(Inserted(id_, created=id_ in ours and id_ not in used))
        used.add(id_)
    return inserted
