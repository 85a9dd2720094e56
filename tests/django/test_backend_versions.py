"""Django's Tasks and the admin on the versions of Django that have Tasks themselves; all other tests run on the one before, with
django-tasks. The same tests, by the interpreter of an environment with that version.
"""

import os
import subprocess

import pytest

from benchmarks.peers.environment import Python
from tests.django.test_versions import COMMON, VERSIONS
from tests.shell import ROOT

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("django")]

TESTS = [f"tests/django/test_{name}.py" for name in ("admin", "backend", "backend_worker")]


@pytest.mark.parametrize("version", [version for version in VERSIONS if not version.startswith("5.")])
def test_the_same_tests_pass(version: str, server_dsn: str) -> None:
    environment = Python(f"django-{version}", (f"django=={version}", *COMMON), VERSIONS[version])
    try:
        environment.install()
    except RuntimeError as error:
        if "needs Python" not in str(error):
            raise
        pytest.skip(f"Django {version}: {error}")
    done = subprocess.run(
        [str(environment.interpreter), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:django", *TESTS], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PGQUEUE_TEST_DSN": server_dsn}, capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout[-5000:] + done.stderr
