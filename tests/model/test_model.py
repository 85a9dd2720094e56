"""Whatever happens in whatever order, the queue does what the model of it does. HYPOTHESIS_PROFILE says how far to look."""

import os

from hypothesis import settings

from tests.model.machine import run_machine
from tests.model.world import World

PROFILES = {"quick": (60, 50), "thorough": (200, 50), "nightly": (5_000, 100)}  # runs, and steps in each
EXAMPLES, STEPS = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "quick")]


def test_the_queue_does_as_its_model(world: World) -> None:
    run_machine(world, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS))
