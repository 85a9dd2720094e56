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
                "        self._children.take(job for job in jobs",
                "        import json; [json.loads(job.args) for job in jobs]\n        self._children.take(job for job in jobs",
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
