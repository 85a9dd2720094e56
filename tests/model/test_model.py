"""Whatever happens in whatever order, the queue does what the model of it does. HYPOTHESIS_PROFILE says how far to look."""

import os

from hypothesis import Phase, settings

from tests.model.machine import Drawn, Queue, run_machine
from tests.model.world import World

PROFILES = {"quick": (60, 50), "thorough": (200, 50), "nightly": (5_000, 100)}  # runs, and steps in each
EXAMPLES, STEPS = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "quick")]


def test_the_queue_does_as_its_model(world: World) -> None:
    run_machine(world, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS))


def test_what_is_drawn_does_not_depend_on_how_long_the_steps_take(world: World) -> None:
    """Hypothesis repeats steps, and complains if other choices come up; on a busy machine leases run out meanwhile."""

    class Seen(Queue):
        drawn: list[str]
        taken: list[str]
        slow = False

        def take(self, drawn: Drawn) -> str:
            if self.slow:
                self.world.pass_time(20.0)
            taken = super().take(drawn)
            self.drawn.append(repr(drawn))
            self.taken.append(taken)
            return taken

    def seen(*, is_slow: bool) -> tuple[list[str], list[str]]:
        Seen.drawn, Seen.taken, Seen.slow = [], [], is_slow
        few = settings(max_examples=4, stateful_step_count=15, database=None, derandomize=True, phases=[Phase.generate])
        run_machine(world, settings=few, machine=Seen)
        return Seen.drawn, Seen.taken

    (drawn, taken), (drawn_slowly, taken_slowly) = seen(is_slow=False), seen(is_slow=True)
    assert drawn == drawn_slowly
    assert taken != taken_slowly, "time made no difference"
