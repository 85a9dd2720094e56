"""A project of Django for each test."""

from pathlib import Path

import pytest

from tests.django.site import Site
from tests.shell import Shell


@pytest.fixture
def bare_site(tmp_path: Path, fresh_dsn: str, shell: Shell) -> Site:
    """With an empty database."""
    return Site(tmp_path, fresh_dsn, shell)


@pytest.fixture
def site(bare_site: Site) -> Site:
    """With all tables."""
    bare_site.manage("migrate")
    return bare_site
