"""Whatever happens in whatever order, the queue does what the model of it does. HYPOTHESIS_PROFILE says how far to look."""

import os
from typing import Any

from hypothesis import Phase, settings

from tests.model.machine import Queue, run_machine
from tests.model.world import World

PROFILES = {"quick": (60, 50), "thorough": (200, 50), "nightly": (5_000, 100)}  # runs, and steps in each
EXAMPLES, STEPS = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "quick")]


def test_the_queue_does_as_its_model(world: World) -> None:
    run_machine(world, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS))


def test_what_is_drawn_does_not_depend_on_how_long_the_steps_take(world: World) -> None:
    """Hypothesis repeats steps, and complains if other choices come up; on a busy machine leases run out meanwhile."""

    class Seen(Queue):
        drawn: list[int]
        expired: list[int]
        slow = False

        def choose(self, seed: int) -> tuple[str, dict[str, Any]]:
            if self.slow:
                self.world.pass_time(20.0)
            self.drawn.append(seed)
            now = self.world.clock()
            self.expired.append(sum(lease.lease_until < now for lease in self.model.leases.values()))
            return super().choose(seed)

    def seen(*, is_slow: bool) -> tuple[list[int], list[int]]:
        Seen.drawn, Seen.expired, Seen.slow = [], [], is_slow
        few = settings(max_examples=4, stateful_step_count=15, database=None, derandomize=True, phases=[Phase.generate])
        run_machine(world, settings=few, machine=Seen)
        return Seen.drawn, Seen.expired

    (drawn, expired), (drawn_slowly, expired_slowly) = seen(is_slow=False), seen(is_slow=True)
    assert drawn == drawn_slowly
    assert expired != expired_slowly, "no lease ran out"
