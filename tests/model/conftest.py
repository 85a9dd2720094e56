"""A database of its own for every test of the model."""

from collections.abc import Iterator

import pytest

from tests.model.world import World


@pytest.fixture
def world(fresh_dsn: str) -> Iterator[World]:
    """A migrated database with nothing in it."""
    made = World(fresh_dsn)
    yield made
    made.close()
