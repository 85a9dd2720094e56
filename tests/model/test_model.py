"""Whatever happens in whatever order, the queue does what the model of it does. HYPOTHESIS_PROFILE=nightly goes far deeper."""

import os

from hypothesis import settings

from tests.model.machine import run_machine
from tests.model.world import World

EXAMPLES, STEPS = (5_000, 100) if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else (200, 50)


def test_the_queue_does_as_its_model(world: World) -> None:
    run_machine(world, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS))
