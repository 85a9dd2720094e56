"""Limits, keys, order and pauses do what the model of them does, in any order of steps; and the model finds known mistakes."""

import os
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.gates import Gates, GatesWorld
from tests.model.test_mutants import Mutant

PROFILES = {"quick": (15, 40), "thorough": (200, 50), "nightly": (3_000, 100)}  # runs, and steps in each
EXAMPLES, STEPS = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "quick")]
FOUND_IN = 150

MUTANTS = (
    Mutant("no lock", "worker/lock_gates", "where pg_try_advisory_xact_lock(%(lock_class)s, hashtext(gate))", ""),
    Mutant("a failed attempt keeps its places", "worker/settle", "and keeps) then 0", "and keeps) then job.gate"),
    Mutant(
        "what falls due is queued at once", "worker/promote",
        "case when gates is null or gate > cardinality(gates) then 'queued' else 'waiting' end", "'queued'",
    ),
    Mutant("a line is left at a failed attempt", "worker/settle", "and keeps) then 0", "and keeps) or true then 0"),
    Mutant("a rescued job loses a place", "lease/rescue", "    state = 'queued',\n", "    state = 'queued', gate = gate - 1,\n"),
    Mutant("second gates are not counted", "worker/admit", "where gates[2] = rule.gate and gate > 2", "where false"),
    Mutant("a key has no own limit", "worker/admit", "else coalesce(own.slots, rule.slots) end as", "else rule.slots end as"),
    Mutant("a closed gate is open", "worker/admit", "or closed.until > statement_timestamp() then 0", "then 0"),
    Mutant("one that is run now loses its turn", "ops/retry", "or gate > 1 then gate", "or gate > cardinality(gates) then gate"),
    Mutant("nobody is told of a free place", "worker/sweep", "limit coalesce(own.slots, rule.slots)\n", "limit 0\n"),
)  # fmt: skip


@pytest.fixture
def gates_world(fresh_dsn: str) -> Iterator[GatesWorld]:
    made = GatesWorld(fresh_dsn)
    yield made
    made.close()


def run(world: GatesWorld, **options: Any) -> None:
    """Examples until one fails."""
    made = settings(deadline=None, suppress_health_check=list(HealthCheck), **options)
    run_state_machine_as_test(cast("type[Gates]", lambda: Gates(world)), settings=made)


@pytest.mark.long
def test_gates_do_as_their_model(gates_world: GatesWorld) -> None:
    run(gates_world, max_examples=EXAMPLES, stateful_step_count=STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_about_gates_is_found(
    gates_world: GatesWorld, mutant: Mutant, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = gates_world.queries
    mutant.text(queries, mutant.files, {})  # it still fits
    monkeypatch.setattr(queries, "text", lambda file, /, **fragments: mutant.text(queries, file, fragments))
    with pytest.raises(Exception):  # noqa: B017 (a mistake may show as any error of the database)
        run(gates_world, max_examples=FOUND_IN, database=None, derandomize=True, phases=[Phase.generate])
