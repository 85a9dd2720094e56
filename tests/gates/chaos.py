"""`python -m tests.gates.chaos DSN SECONDS SEED [MUTANT]`: break whatever can be broken about gates, and watch the limits.

Workers by hand, whose statements are those of real ones, are killed in the midst of whatever they do. Callers commit late or
roll back, people cancel, delete, replace and raise a limit. Meanwhile others look, each in one snapshot, whether more jobs are
past a gate or run than it has places. In the end every job must have ended. Prints what was seen, as JSON.
"""

import contextlib
import json
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import psycopg

from pgqueue import App, Limit, Task, db
from pgqueue.gates.admit import admit
from pgqueue.job import Claimed, State
from pgqueue.queries import Queries, texts
from tests.hands import Hands, claim

WORKERS = 3
LEASE_S = 1.5
TENANTS = 5
DRAIN_S = 40.0

Mutant = Callable[[str, str], str]  # of a file's name and its text

MUTANTS: dict[str, tuple[str, str, str]] = {
    "no lock": ("worker/lock_gates", "where pg_try_advisory_xact_lock(%(lock_class)s, hashtext(gate))", ""),
    "one statement locks and counts": (
        "worker/admit",
        "from unnest(current_setting('pgqueue.gates')::text[]) as held (gate)",
        "from unnest(%(gates)s::text[]) as held (gate)",
    ),
    "a failed attempt keeps its place": ("worker/settle", "and keeps) then 0", "and keeps) then job.gate"),
    "what falls due is queued at once": (
        "worker/promote",
        "case when gates is null or gate > cardinality(gates) then 'queued' else 'waiting' end",
        "'queued'",
    ),
}

# Gates with more jobs past them, or running, than they have places; and jobs that hold places while they wait for their time.
OVER = """
select 'past', held.gate, held.past, coalesce(own.slots, rule.slots)
from (
  select name.gate, count(*) filter (where job.gate > name.place) as past, count(*) filter (where state = 'running') as running
  from pgqueue.job, unnest(gates) with ordinality as name (gate, place)
  group by 1
) as held
join pgqueue.gate as rule on rule.name = split_part(held.gate, '=', 1)
left join pgqueue.gate as own on own.name = held.gate
where greatest(held.past, held.running) > coalesce(own.slots, rule.slots)
union all
select 'idle', gates[1], 1, 0
from pgqueue.job
where state = 'scheduled' and gate > 0
  and not exists (select from pgqueue.gate where name = split_part(gates[1], '=', 1) and keeps)
"""


class Wrong(Queries):
    """All statements, one of which is wrong."""

    mutant: str | None = None

    def text(self, file: str, /, **fragments: str) -> str:
        text = super().text(file, **fragments)
        if self.mutant is None or MUTANTS[self.mutant][0] != file:
            return text
        _, right, wrong = MUTANTS[self.mutant]
        assert right in text
        return text.replace(right, wrong)


class HandWorker:
    """A worker's statements, sent as a real one does."""

    def __init__(self, dsn: str, queries: Queries, mutant: str | None, seed: float) -> None:
        self._random = random.Random(seed)
        self._line = db.connect(dsn)
        db.run(self._line, db.plan_steadily(self._line, queries))
        self._queries = queries
        self._mutant = mutant
        self._owed: set[str] = set()
        self._beat_at = self._swept_at = 0.0
        self._id = Hands(self._line, queries).id
        self._beat()

    def _beat(self) -> None:
        self._beat_at = time.monotonic()
        self._line.execute(
            "update pgqueue.worker set lease_until = clock_timestamp() + %s * interval '1 s' where id = %s and state <> 'dead'",
            [LEASE_S, self._id],
        )
        looking = (
            "select id::text from pgqueue.worker where lease_until < clock_timestamp() and id <> %s and state <> 'dead'"
        )
        late = [worker for (worker,) in self._line.execute(looking, [self._id])]
        db.run(self._line, self._queries.bury(late, grace_s=1.0))
        dead = [worker for (worker,) in self._line.execute("select id::text from pgqueue.worker where state = 'dead'")]
        (rescued,) = db.run(self._line, self._queries.rescue(dead, crash_cap=30))
        self._owed.update(rescued.gates)
        if rescued.returned or rescued.ended or time.monotonic() - self._swept_at > 2:
            self._swept_at = time.monotonic()
            (swept,) = db.run(self._line, self._queries.sweep(place=1, after="", urgent=True))
            self._owed.update(swept.gates)

    def _admit(self, gates: set[str], *after: Any) -> None:
        if self._mutant == "one statement locks and counts":
            self._lock_and_count(gates, *after)
            return
        steps = admit(self._queries, gates, worker=self._id, after=after)
        _, admitted = db.run_together(self._line, steps)
        self._owed = (self._owed - gates) | admitted.again | admitted.taken

    def _lock_and_count(self, gates: set[str], *after: Any) -> None:
        """The statement begins, and with it its snapshot; only then is the lock there, which the one before has released."""
        with self._line.transaction():
            for statement in after:
                db.run(self._line, statement)
            lock = "pg_advisory_xact_lock(1885827446, hashtext(gate)) is not null"
            text = self._queries.text("worker/admit").replace(
                "as held (gate)\n",
                f"as held (gate)\n  join lateral (select {lock} as locked offset 0) as turn on locked\n",
                1,
            )
            ours = sorted(gates)
            (row,) = self._line.execute(
                text, {"gates": ours, "worker": self._id, "most": 1000, "spare": 0, "flow": 0.0}
            ).fetchall()
            self._owed = (self._owed - gates) | {*row[1], *row[2]}

    def run(self) -> None:
        """Until it is killed."""
        while True:
            if time.monotonic() - self._beat_at > 0.4:
                self._beat()
            (promoted,) = db.run(self._line, self._queries.promote(worker=self._id))
            (heads,) = db.run(self._line, self._queries.heads(queues=None, unknown=[]))
            self._owed.update(promoted.gates, heads.fresh)
            if self._owed:
                self._admit(set(self._owed))
            jobs = claim(self._line, self._queries, self._id, limit=self._random.choice([1, 3, 20]))
            time.sleep(self._random.random() * 0.02)
            good = [job for job in jobs if self._random.random() < 0.7]
            self._end(good, [job for job in jobs if job not in good])

    def _end(self, good: list[Claimed], bad: list[Claimed]) -> None:
        by_id = sorted(good, key=lambda job: job.id)
        ids, tokens = [job.id for job in by_id], [job.token for job in by_id]
        finish = self._queries.finish(worker=self._id, ids=ids, tokens=tokens, results=["1"] * len(ids))
        self._admit({gate for job in good for gate in job.gates or ()}, finish)
        ends = [self._random.choice(ENDS) for _ in bad]
        columns: dict[str, list[Any]] = {
            "ids": [job.id for job in bad], "tokens": [job.token for job in bad], "states": [str(end[0]) for end in ends],
            "delays": [end[1] for end in ends], "refunds": [end[2] for end in ends], "crashes": [0] * len(bad),
            "causes": [None] * len(bad), "errors": [None] * len(bad), "tracebacks": [None] * len(bad),
            "gates": [texts(job.gates) if job.gates and end[0] == State.WAITING else None
                      for job, end in zip(bad, ends, strict=True)],
        }  # fmt: skip
        for place, job in enumerate(bad):
            if job.astray or (columns["states"][place] == State.WAITING and not job.gates):
                columns["states"][place] = str(State.WAITING if job.gates else State.QUEUED)
        settle = self._queries.settle(worker=self._id, worker_name="by hand", columns=columns)
        self._admit({gate for job in bad for gate in job.gates or ()}, settle)


ENDS = [
    (State.SCHEDULED, 0.05, 0), (State.SCHEDULED, 0.0, 1), (State.QUEUED, 0.0, 1), (State.DEAD, 0.0, 0), (State.WAITING, 0.0, 1)
]  # fmt: skip


def tasks_of(app: App) -> dict[str, Task[Any, Any, Any]]:
    """A task of each kind."""

    def task(key: str = "") -> None: ...

    tenant = Limit(2, key="key", name="tenant")
    return {
        "free": app.task(name="free")(task),
        "tenant": app.task(name="tenant", limit=tenant)(task),
        "both": app.task(name="t", limit=[tenant, 7])(task),
        "strict": app.task(name="strict", limit=Limit(1, key="key", name="strict"))(task),
    }


def work(dsn: str, mutant: str | None, seed: float) -> None:
    app = App(dsn)
    queries = Wrong(app.config)
    queries.mutant = mutant
    with contextlib.suppress(psycopg.Error):
        HandWorker(dsn, queries, mutant, seed).run()


def produce(dsn: str, seed: int, until: float) -> None:
    """Callers: some commit late, some roll back."""
    rnd, app = random.Random(seed), App(dsn)
    tasks = tasks_of(app)
    with psycopg.connect(dsn, autocommit=True) as conn:
        while time.time() < until:
            with conn.transaction(force_rollback=rnd.random() < 0.1):
                for _ in range(rnd.randint(1, 4)):
                    task = tasks[rnd.choice(list(tasks))].options(conn=conn, priority=rnd.choice([0, 0, 5]))
                    keys = [rnd.choice("abcde"[:TENANTS]) for _ in range(rnd.choice([1, 1, 5, 20]))]
                    task.defer(keys[0]) if len(keys) == 1 else task.defer_many([(key,) for key in keys])
                if rnd.random() < 0.1:
                    time.sleep(rnd.random())
            time.sleep(0.3 * rnd.random())
    app.close()


def meddle(dsn: str, seed: int, until: float) -> None:
    """People: they cancel, delete, replace, and raise a limit."""
    rnd, app = random.Random(seed), App(dsn)
    with psycopg.connect(dsn, autocommit=True) as conn:
        while time.time() < until:
            found = "select id::text from pgqueue.job where gates is not null and random() < 0.05 limit 3"
            for (job,) in conn.execute(found).fetchall():
                match rnd.choice(["cancel", "delete", "replace"]):
                    case "cancel":
                        app.job(job).cancel()
                    case "delete":
                        conn.execute("delete from pgqueue.job where id = %s and state <> 'running'", [job])
                    case "replace":
                        conn.execute(
                            "update pgqueue.job set gates = array['tenant=' || %s], gate = 0, state = 'waiting', "
                            "seq = nextval('pgqueue.job_seq') where id = %s and state in ('waiting', 'scheduled', 'queued')",
                            [rnd.choice("abcde"), job],
                        )
            if rnd.random() < 0.2:
                conn.execute("insert into pgqueue.gate (name, slots) values ('tenant=b', 4) on conflict do nothing")
            time.sleep(0.03)
    app.close()


def watch(dsn: str, until: float, told: Any) -> None:
    """Look, in one snapshot each time, until it is time."""
    looks, over = 0, list[Any]()
    with psycopg.connect(dsn, autocommit=True) as conn:
        while time.time() < until and len(over) < 10:
            over += conn.execute(OVER).fetchall()
            looks += 1
            time.sleep(0.001)
    told.put((looks, over))


def run(dsn: str, seconds: float, seed: int, mutant: str | None) -> dict[str, Any]:
    """One run; the first look that finds something ends it."""
    fork, rnd = multiprocessing.get_context("fork"), random.Random(seed)
    told = fork.Queue()

    def start(target: Callable[..., None], *args: Any) -> Any:
        process = fork.Process(target=target, args=args, daemon=True)
        process.start()
        return process

    until = time.time() + seconds
    workers = [start(work, dsn, mutant, rnd.random()) for _ in range(WORKERS)]
    others = [start(produce, dsn, seed + n, until) for n in range(2)] + [start(meddle, dsn, seed, until)]
    watchers = [start(watch, dsn, until + 1, told) for _ in range(2)]
    kills = 0
    while time.time() < until and all(watcher.is_alive() for watcher in watchers):
        time.sleep(0.5)
        place = rnd.randrange(WORKERS)
        workers[place].kill()
        workers[place].join()
        workers[place] = start(work, dsn, mutant, rnd.random())
        kills += 1
    seen = [told.get() for _ in watchers] if all(watcher.is_alive() for watcher in watchers) else [told.get()]
    over: list[Any] = [row for _, found in seen for row in found]
    for process in others:
        if over:
            process.kill()
        process.join()
    with psycopg.connect(dsn, autocommit=True) as conn:
        deadline = time.time() + (0 if over else DRAIN_S)
        left = "select state::text, gates, gate, count(*) from pgqueue.job group by 1, 2, 3"
        while (rows := conn.execute(left).fetchall()) and time.time() < deadline:
            time.sleep(0.1)
        for process in (*workers, *watchers):
            process.kill()
            process.join()
        (deadlocks,) = conn.execute(
            "select deadlocks from pg_stat_database where datname = current_database()"
        ).fetchone() or (0,)
        ended: dict[str, int] = dict(
            conn.execute("select state::text, count(*) from pgqueue.history group by 1").fetchall()
        )
    looks = sum(count for count, _ in seen)
    return {"looks": looks, "over": over, "kills": kills, "left": rows, "ended": ended, "deadlocks": deadlocks}


def main() -> None:
    dsn, seconds, seed, *mutant = sys.argv[1:]
    app = App(dsn)
    tasks_of(app)
    rules = [rule.as_json() for rule in app.rules()]
    app.run(app.queries.declare_gates(rules))
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("update pgqueue.gate set keeps = true where name = 'strict'")
    app.close()
    print(json.dumps(run(dsn, float(seconds), int(seed), mutant[0] if mutant else None)))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
