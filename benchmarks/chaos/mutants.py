"""`python -m benchmarks.chaos.mutants`: test the tester. Each known way to get it wrong is done to a copy of the package, and a
short run with the faults that provoke it must find it; the package as it is must pass the same runs.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.groups import ROOT
from benchmarks.chaos.plan import Fault
from benchmarks.chaos.run import Scenario, forget, interrupted, play

Change = tuple[str, str, str]  # file of the package, text that occurs in it once, what stands there instead

FENCED = "    and job.claim_token = {0}.claim_token\n    and coalesce(job.state = 'running' and job.worker = %(worker)s, false)\n"
OUR_FDS = "sorted(int(name) for name in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{name}'))"

# A lease of 3 s instead of 15: what a cut costs then shows in seconds. All scenarios run with it, the unharmed one too.
SHORT_LEASE: tuple[Change, ...] = (
    ("worker/settings.py", "LEASE_S = 15.0", "LEASE_S = 3.0"),
    ("worker/settings.py", "STOP_CLAIMING_S = 6.0", "STOP_CLAIMING_S = 2.5"),
    ("events/reader.py", "LANE_LEASE_S = 15.0", "LANE_LEASE_S = 3.0"),
    ("events/reader.py", "RENEW_LANE_S = 4.0", "RENEW_LANE_S = 0.8"),
)


@dataclass(frozen=True)
class Mutant:
    """A mistake, the run that provokes it, and the kinds of violation of which at least one must be found."""

    name: str
    changes: Sequence[Change]
    scenario: str
    found_as: frozenset[str]


def _faults(*faults: tuple[float, float, str, str]) -> list[Fault]:
    return [Fault(*fault) for fault in faults]


SCENARIOS: Mapping[str, Scenario] = {
    # Both workers in turn are cut off for longer than a lease, and come back with outcomes of jobs that others now run.
    "cuts": Scenario(
        plan=_faults(
            (1, 5, "cut", "w1"), (8, 5, "cut", "w2"), (15, 5, "cut", "w1"), (22, 5, "cut", "w2"), (29, 5, "cut", "w1"),
        ),
        seed=1, jobs=110, seconds=36, children=4, long_share=0.6, long_s=6,
    ),
    "kills": Scenario(
        plan=_faults(*((2 + 2 * n, 0.5, "kill_child" if n % 2 else "kill_worker", f"w{1 + n // 2 % 2}") for n in range(8))),
        seed=2, jobs=600, seconds=20,
    ),
    # A child that dies has an atomic job of 20 ms half done in one case of five.
    "strikes": Scenario(
        plan=_faults(*((1.5 + 0.7 * n, 0, "kill_child", f"w{1 + n % 2}") for n in range(24))),
        seed=6, jobs=2400, seconds=18, long_share=0,
    ),
    "restarts": Scenario(
        plan=_faults(*((2 + 7 * n, 0, "restart_fast", "server") for n in range(4))), seed=3, jobs=500, seconds=28,
    ),
    "quiet": Scenario(plan=[], seed=4, jobs=200, seconds=5, drain_s=15),
    "fights": Scenario(plan=[], seed=7, jobs=64, seconds=0.5, producers=8, bulk_share=1, long_share=0),
    # Every child is replaced while its supervisor has connections; then the supervisor dies.
    "orphans": Scenario(
        plan=_faults(
            (2, 0, "kill_child", "w1"), (3, 0, "kill_child", "w1"), (4, 0, "kill_child", "w1"), (5, 0, "kill_child", "w1"),
            (8, 8, "kill_worker", "w1"),
        ),
        seed=5, jobs=400, seconds=18, drain_s=30,
    ),
    # Relays wake when another has gone on, dispatchers do not hear that they have committed, the listener is cut off.
    "events": Scenario(
        plan=_faults(
            (1, 6, "oversleep", "relays"), (2, 1, "lose_commits", "w1"), (4, 2, "cut", "reader"), (5, 1, "lose_replies", "app"),
            (7, 1, "lose_commits", "w2"), (9, 6, "oversleep", "relays"), (10, 1, "kill_bus", "bus"), (12, 2, "cut", "reader"),
            (13, 1, "lose_commits", "w1"), (14, 1, "lose_replies", "app"), (17, 6, "oversleep", "relays"),
            (18, 1, "lose_commits", "w2"), (19, 1, "kill_bus", "bus"), (20, 2, "cut", "reader"), (22, 1, "lose_replies", "app"),
            (25, 6, "oversleep", "relays"), (27, 0, "kill_relays", "relays"),
        ),
        seed=8, jobs=40, seconds=32, turns=360, publishers=4, long_share=0, drain_s=20,
    ),
    # Three workers at few gates, all of them busy; some are killed with places in their hands.
    "gates": Scenario(
        plan=_faults(
            (2, 0, "kill_child", "w1"), (4, 0.5, "kill_worker", "w2"), (6, 0, "kill_child", "w3"), (8, 0.5, "kill_group", "w1"),
            (10, 0, "end_sessions", "server"), (12, 0, "kill_child", "w2"), (14, 0.5, "kill_worker", "w3"),
        ),
        seed=9, jobs=900, seconds=18, groups=("w1", "w2", "w3"), gated_share=0.95, bulk_share=0, long_share=0, drain_s=40,
    ),
}  # fmt: skip

MUTANTS = (
    Mutant(
        "a finish is found by id only",
        [
            ("sql/worker/finish.sql", FENCED.format("done"), ""),
            ("sql/worker/settle.sql", FENCED.format("verdict"), ""),
        ],
        "cuts", frozenset({"stale", "effects", "doubled", "token"}),
    ),
    Mutant(
        "the token is the attempt, which is handed back",
        [
            ("sql/worker/claim.sql", "claim_token = claim_token + 1", "claim_token = attempt + 1"),
        ],
        "kills", frozenset({"token"}),
    ),
    Mutant(
        "a free session lock is death",
        [
            ("sql/lease/beat.sql", "      and exists (select from judge)\n", ""),
            ("sql/lease/beat.sql", "      and pg_postmaster_start_time() not between now() - interval '5 seconds' and now()\n", ""),
            ("sql/lease/beat.sql", "          %(settled)s\n          and ", "          "),
            ("sql/lease/beat.sql", "suspect_since < now() - %(grace_s)s * interval '1 second'", "%(grace_s)s > 0"),
            ("sql/lease/bury.sql", "suspect_since < now() - %(grace_s)s * interval '1 second'", "%(grace_s)s > 0"),
        ],
        "restarts", frozenset({"theft"}),
    ),
    Mutant(
        "an atomic job is finished before its effect",
        [
            (
                "worker/child/executor.py",
                "                result = self._encode(self.task.function(*args, **kwargs))\n"
                "                self._finished(db.run(conn, self._finish(conn, result)))\n",
                "                self._finished(db.run(conn, self._finish(conn, str(self.job.token))))\n"
                "            with conn.transaction():\n"
                "                self.task.function(*args, **kwargs)\n",
            )
        ],
        "strikes", frozenset({"effects"}),
    ),
    Mutant(
        "no bell and no poll",
        [
            ("sql/migrations/0001_initial.sql", "select pg_notify('{channel}', inserted.queue)", "select inserted.queue"),
            ("worker/settings.py", "POLL_S = 5.0", "POLL_S = 3600.0"),
            ("worker/supervisor/idle.py", "LATER_LOOK = 4 ", "LATER_LOOK = 100_000 "),  # else polls
            ("worker/supervisor/wakeups.py", "        self.unanswered = True\n", "        return\n"),
        ],
        "quiet", frozenset({"stuck"}),
    ),
    Mutant(
        "arguments are read where one bad row spoils its batch",
        [
            (
                "worker/supervisor/claimer.py",
                "        self._children.take(self._startable",
                "        import json; [json.loads(job.args) for job in jobs]\n        self._children.take(self._startable",
            )
        ],
        "quiet", frozenset({"stuck", "leak", "theft"}),
    ),
    Mutant(
        "an outcome that the database refuses is sent again with all others",
        [
            (
                "worker/supervisor/finisher.py",
                "float(outcome.delay_s) for",
                "outcome.delay_s if outcome.delay_s != 0.1 else 'soon' for",
            ),
            ("worker/supervisor/sieve.py", "if db.is_of_the_moment(error):", "if error:"),
        ],
        "quiet", frozenset({"stuck"}),
    ),
    Mutant(
        "a copy of the process that a task forked answers for the job",
        [
            ("worker/child/copies.py", "(before=flush, after_in_child=self._cut_off)", "(before=flush)"),
            ("worker/child/copies.py", "return self.inside or os.getpid() != self._pid", "return self.inside"),
        ],
        "quiet", frozenset({"stranger", "token", "doubled"}),
    ),
    Mutant(
        "unique keys are inserted in the order given",
        [
            ("client/enqueue.py", "order = sorted(range(len(held)), key=keys.__getitem__)", "order = range(len(held))"),
            ("sql/client/insert_source_many.sql", '  order by unique_key collate "C"\n', ""),
        ],
        "fights", frozenset({"deadlock"}),
    ),
    Mutant(
        "children inherit the supervisor's connections and outlive it",
        [
            ("worker/supervisor/child_process.py", "pass_fds=fds", f"pass_fds={OUR_FDS}"),
            ("worker/child/main.py", "    die_with_parent(int(sys.argv[3]))\n", ""),
            ("worker/child/main.py", "        os._exit(0)\n\n    def _take", "        return\n\n    def _take"),
        ],
        "orphans", frozenset({"leak", "stuck"}),
    ),
    Mutant(
        "places move in another transaction than the jobs are made in",
        [
            (
                "sql/migrations/0010_dispatch.sql",
                "      order by page.seq, subscription.name\n",
                "      where current_setting('pgqueue.mistake', true) is distinct from 'moves'\n"
                "      order by page.seq, subscription.name\n",
            ),
            (
                "sql/migrations/0010_dispatch.sql",
                "        place.subscription = any (front.names) and place.tick",
                "        current_setting('pgqueue.mistake', true) is distinct from 'jobs'\n"
                "        and place.subscription = any (front.names) and place.tick",
            ),
            ("sql/migrations/0010_dispatch.sql", "    if moved < cardinality(front.names) and", "    if false and"),
            (
                "events/dispatch.py",
                "    pages = yield from ask(queries.dispatch(",
                "    from pgqueue.queries import Statement\n"
                "    mistake = \"select set_config('pgqueue.mistake', %(what)s, false)\"\n"
                "    yield Statement(mistake, {'what': 'jobs'})\n"
                "    yield queries.dispatch(held, size=PAGE, fewest=PAGE_LEAST, here=here)\n"
                "    yield Statement(mistake, {'what': 'moves'})\n"
                "    pages = yield from ask(queries.dispatch(",
            ),
        ],
        "events", frozenset({"event doubled"}),
    ),
    Mutant(
        "a window is what has higher numbers than were seen",
        [
            (
                "sql/events/window.sql",
                "    xid = any (array(select pg_snapshot_xip(%(since)s::pg_snapshot)))\n",
                "    seq > (select coalesce(max(seq), 0) from {schema}.event\n"
                "      where pg_visible_in_snapshot(xid, %(since)s::pg_snapshot))\n",
            ),
            ("sql/events/window.sql", "    xid >= pg_snapshot_xmax(%(since)s::pg_snapshot) and ", "    false and "),
            (
                "sql/migrations/0010_dispatch.sql",
                "        xid = any (array(select pg_snapshot_xip(since))) and",
                "        seq > (select coalesce(max(seq), 0) from {schema}.event where pg_visible_in_snapshot(xid, since)) and",
            ),
            ("sql/migrations/0010_dispatch.sql", "        xid >= pg_snapshot_xmax(since) and", "        false and"),
        ],
        "events", frozenset({"event lost", "relay lost"}),
    ),
    Mutant(
        "a relay moves its place without a fence",
        [("sql/events/move.sql", " and held_by = %(reader)s::uuid and tick = %(tick)s and seq = %(seq)s\n", "\n")],
        "events", frozenset({"relay doubled", "relay lost"}),
    ),
    Mutant(
        "a relay moves its place before the bus has answered",
        [("worker/relay/relaying.py", "            self._bus.send(events)\n",
          "            self._reader.done(page).result()\n            self._bus.send(events)\n")],
        "events", frozenset({"relay lost"}),
    ),
    Mutant(
        "a listener is not told of a new connection",
        [("channels/receiver.py", "                mailbox.miss(why)\n", "                pass\n")],
        "events", frozenset({"notification lost"}),
    ),
    Mutant(
        "a publish whose answer was lost is said again",
        [("sql/events/publish_again.sql", " and id = %(id)s::uuid\n", " and false\n")],
        "events", frozenset({"event doubled"}),
    ),
    Mutant(
        "those past a gate are counted without its lock",
        [("sql/worker/lock_gates.sql", "  where pg_try_advisory_xact_lock(%(lock_class)s, hashtext(gate))\n", "")],
        "gates", frozenset({"limit", "order"}),
    ),
    Mutant(
        "one statement takes the lock and counts",
        [
            ("sql/worker/lock_gates.sql", "  where pg_try_advisory_xact_lock(%(lock_class)s, hashtext(gate))\n", ""),
            (
                "sql/worker/admit.sql",
                "  from unnest(current_setting('pgqueue.gates')::text[]) as held (gate)\n",
                "  from unnest(current_setting('pgqueue.gates')::text[]) as held (gate)\n"
                "  join lateral (select pg_advisory_xact_lock(1885827446, hashtext(gate)) is not null as locked offset 0) as turn\n"
                "    on locked\n",
            ),
        ],
        "gates", frozenset({"limit", "order"}),
    ),
    Mutant(
        "a failed attempt keeps its places",
        [("sql/worker/settle.sql", " and keeps) then 0\n", " and keeps) then job.gate\n")],
        "gates", frozenset({"idle place"}),
    ),
    Mutant(
        "what falls due is past its gates",
        [
            (
                "sql/worker/promote.sql",
                "case when gates is null or gate > cardinality(gates) then 'queued' else 'waiting' end",
                "'queued'",
            )
        ],
        "gates", frozenset({"astray"}),
    ),
)  # fmt: skip


def main() -> int:
    """0 if every mutant was found and the unharmed package passed everywhere."""
    if sys.argv[1:2] == ["--scenario"]:
        return _play_here(sys.argv[2])
    began = time.monotonic()
    wanted = sys.argv[1:]
    mutants = [mutant for mutant in MUTANTS if not wanted or any(word in mutant.name for word in wanted)]
    failures = 0
    with interrupted():
        for name in dict.fromkeys(mutant.scenario for mutant in mutants):
            kinds = _play(name, SHORT_LEASE)
            failures += bool(kinds)
            _say("the package as it is", name, "FAILED: " + ", ".join(kinds) if kinds else "passes")
        for mutant in mutants:
            kinds = _play(mutant.scenario, (*SHORT_LEASE, *mutant.changes))
            survived = not mutant.found_as & kinds
            failures += survived
            _say(
                mutant.name,
                mutant.scenario,
                f"{'SURVIVED' if survived else 'found'}: {', '.join(sorted(kinds)) or 'nothing'}",
            )
    print(f"{'all were found' if not failures else f'{failures} FAILURES'} in {time.monotonic() - began:.0f} s")
    return 1 if failures else 0


def _say(name: str, scenario: str, outcome: str) -> None:
    print(f"{name:<62} {scenario:<9} {outcome}", flush=True)


def _play(scenario: str, changes: Sequence[Change]) -> set[str]:
    """The kinds of violations found in a run of a copy of the package with these changes."""
    with tempfile.TemporaryDirectory(prefix="pgqueue-mutant-") as folder:
        package = Path(folder)
        package.chmod(0o755)
        shutil.copytree(ROOT / "pgqueue", package / "pgqueue", ignore=shutil.ignore_patterns("__pycache__"))
        for file, old, new in changes:
            _change(package / "pgqueue" / file, old, new)
        # In a process of its own, whose producers are of the same package as its workers.
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.chaos.mutants", "--scenario", scenario], cwd=package, text=True,
            env={**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{ROOT}"}, stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        return set(json.loads(done.stdout))


def _play_here(scenario: str) -> int:
    verdict, ledger = play(SCENARIOS[scenario], say=lambda _: None)
    forget(ledger)
    print(json.dumps(sorted(verdict.violations)))
    return 0


def _change(path: Path, old: str, new: str) -> None:
    """A change that no longer fits is an error: a mutant that changes nothing would survive for ever."""
    text = path.read_text("utf-8")
    if text.count(old) != 1:
        raise SystemExit(f"{path.name} has {text.count(old)} places that read {old!r}: bring the mutant up to date")
    path.write_text(text.replace(old, new), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
