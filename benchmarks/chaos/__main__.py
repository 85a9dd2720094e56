"""`python -m benchmarks.chaos`: break everything for a while, then check that nothing was lost, doubled or stale.

The plan of faults, and what the producers do, follow from --seed. Exit code 1 if a promise was broken; the ledger and the
workers' logs are then kept.
"""

import argparse
import json
import random
import sys
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.chaos.checker import Verdict
from benchmarks.chaos.plan import draw, draw_events
from benchmarks.chaos.run import Scenario, forget, interrupted, play


@dataclass(frozen=True)
class Tier:
    """How much of everything. seconds: of faults; gap_s: the mean pause between two of them.

    turns: transactions of those who publish.

    long_share of the jobs take up to long_s seconds, no more than the children can bear.
    """

    jobs: int
    seconds: float
    workers: int
    children: int
    gap_s: float
    long_share: float
    long_s: float
    turns: int
    standby: bool = False


TIERS = {
    "smoke": Tier(jobs=2_000, seconds=60, workers=2, children=2, gap_s=3, long_share=0.05, long_s=1.5, turns=200),
    "nightly": Tier(
        jobs=100_000,
        seconds=20 * 60,
        workers=3,
        children=4,
        gap_s=5,
        long_share=0.002,
        long_s=40,
        turns=4_000,
        standby=True,
    ),
    "release": Tier(
        jobs=1_000_000,
        seconds=3 * 3600,
        workers=4,
        children=8,
        gap_s=5,
        long_share=0.002,
        long_s=40,
        turns=40_000,
        standby=True,
    ),
}


def main() -> int:
    """One run; 0 if every promise held."""
    options = _options()
    tier = TIERS[options.tier]
    seconds = options.minutes * 60 if options.minutes else tier.seconds
    groups = [f"w{number}" for number in range(1, (options.workers or tier.workers) + 1)]
    plan = draw(options.seed, seconds=seconds, groups=groups, gap_s=tier.gap_s, standby=tier.standby)
    plan += draw_events(options.seed, seconds=seconds)
    scenario = Scenario(
        plan=sorted(plan, key=lambda fault: fault.at_s), seed=options.seed, turns=tier.turns,
        jobs=options.jobs or tier.jobs, seconds=seconds, groups=groups, children=options.children or tier.children,
        long_share=tier.long_share, long_s=tier.long_s, standby=tier.standby,
    )  # fmt: skip
    print(f"seed {options.seed}: {scenario.jobs} jobs, {len(scenario.plan)} faults in {seconds:.0f} s", flush=True)
    began = time.monotonic()
    with interrupted():
        verdict, folder = play(scenario, say=lambda text: print(f"  {text}", flush=True))
    report(verdict, took_s=time.monotonic() - began)
    if options.json:
        print(json.dumps({"seed": options.seed, "violations": verdict.violations, **verdict.figures}))
    if verdict.valid and not options.keep:
        forget(folder)
        return 0
    print(f"ledger and logs: {folder}; the same plan again: --tier {options.tier} --seed {options.seed}")
    return 0 if verdict.valid else 1


def report(verdict: Verdict, *, took_s: float) -> None:
    """One page for people."""
    for name, figure in verdict.figures.items():
        print(f"{name:<20} {_flat(figure)}")
    for kind, texts in verdict.violations.items():
        print(f"VIOLATED {kind}: {len(texts)} times")
        for text in texts[:5]:
            print(f"  {text}")
    print(f"{'every promise held' if verdict.valid else 'PROMISES BROKEN'} ({took_s:.0f} s)")


def _flat(figure: Any) -> str:
    if not isinstance(figure, dict):
        return str(figure)
    return ", ".join(f"{name} {_flat(value)}" for name, value in figure.items()) or "none"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--tier", choices=TIERS, default="smoke")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="repeats the plan of a run")
    parser.add_argument("--minutes", type=float, help="of faults")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--workers", type=int, help="worker groups, each with a network of its own")
    parser.add_argument("--children", type=int, help="processes per worker")
    parser.add_argument("--keep", action="store_true", help="keep the ledger and the logs in any case")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
