"""The example of a test suite passes in processes next to each other, as its authors would run it."""

import os
import subprocess
import sys

from tests.shell import ROOT


def test_the_tests_of_the_example_pass(server_dsn: str) -> None:
    words = ["-m", "pytest", "-q", "-n", "2", "-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-W", "error", *words, "examples/tested_app"], cwd=ROOT, capture_output=True, text=True, timeout=180,
        env={**os.environ, "PGQUEUE_TEST_DSN": server_dsn, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0 and "8 passed" in done.stdout, done.stdout + done.stderr
