"""The example of an outbox: every committed order is in the stream once, whatever was killed; and it would tell if not."""

import os
import subprocess
import sys

import pytest

from examples.outbox.demo import Sold, differences
from tests.conftest import PATIENCE_S
from tests.shell import ROOT

ORDERS = [Sold(customer, number, 10 * customer + number) for number in (1, 2, 3) for customer in (1, 2)]


def test_the_comparison_sees_what_is_wrong() -> None:
    assert differences(ORDERS, ORDERS) == []
    assert differences(ORDERS, ORDERS[1:]) == ["order 11 is not in the stream"]
    assert differences(ORDERS[1:], ORDERS) == ["order 11 is in the stream, and was rolled back"]
    assert "order 11 is in the stream 2 times" in differences(ORDERS, [*ORDERS, ORDERS[0]])
    assert differences(ORDERS, [ORDERS[2], *ORDERS[:2], *ORDERS[3:]]) == ["order 1 of customer 1 came after 2"]
    assert differences(ORDERS, sorted(ORDERS)) == []  # of two customers, any order


@pytest.mark.long
def test_the_outbox_survives_kills_of_relay_and_redis(dsn: str) -> None:
    """15 s of it are the lease of the relay that was killed."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.outbox.demo", "--orders", "400", "--kills", "1"],
        env={**os.environ, "PGQUEUE_DSN": dsn}, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=6 * PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "each exactly once, in the order of its customer, and no other" in done.stdout
