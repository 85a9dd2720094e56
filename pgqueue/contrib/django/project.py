"""What a Django project says to pgqueue: its setting PGQUEUE, its database, and the transaction that is open there."""

import dataclasses
import threading
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections

from pgqueue import db
from pgqueue.config import Config
from pgqueue.contrib.django.test_databases import check_allowed
from pgqueue.errors import ConfigError

BACKEND = "pgqueue.contrib.django.Backend"
"""As TASKS names it."""
# The database comes from DATABASES, and the tasks from the apps.
NAMES = {"DATABASE": "database"} | {
    field.name.upper(): field.name for field in dataclasses.fields(Config) if field.name not in ("dsn", "app")
}
PARTS = "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS"


class Said(NamedTuple):
    """What the settings say: which of DATABASES holds the jobs, and arguments of App."""

    alias: str
    given: dict[str, Any]


class Project:
    """The project of this process. Nothing is read before it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: Said | None = None
        self._place: list[Any] = []
        self._settings: Mapping[str, Any] = {}

    def forget(self, **_: Any) -> None:
        """Read the settings again: a test has changed one."""
        with self._lock:
            self._said, self._place = None, []

    @property
    def said(self) -> Said:
        """The settings, as of the first time that they were needed. Raises ConfigError."""
        said = self._said
        if said is None:
            said = self._said = _said()
        return said

    @property
    def connection(self) -> Any:
        """This thread's connection to the database that holds the jobs, open or not. Raises ConfigError."""
        return connections[self.said.alias]

    def settings(self) -> Mapping[str, Any]:
        """What PGQUEUE says, and the address of the database: in tests that is the test database."""
        conn = self.connection
        place = [conn.settings_dict[name] for name in PARTS]
        if place != self._place:
            with self._lock:
                if place != self._place:
                    self._settings = {**self.said.given, "dsn": _address(conn)}
                    self._place = [*place[:-1], dict(place[-1])]
        return self._settings

    def transaction(self) -> Any:
        """Its connection, where this thread is inside of `atomic`."""
        conn = self.connection
        return conn if conn.in_atomic_block else None

    def check(self) -> None:
        """Raises what a test does that may not use the database."""
        check_allowed(self.connection)


PROJECT = Project()


def _said() -> Said:
    said = getattr(settings, "PGQUEUE", {})
    if not isinstance(said, Mapping):
        raise ConfigError(f"PGQUEUE must be a dict, as {{'DATABASE': 'default'}}, not a {type(said).__name__}")
    for name in said.keys() - NAMES.keys():
        close = get_close_matches(str(name).upper(), NAMES, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(sorted(NAMES))}"
        raise ConfigError(f"PGQUEUE in Django's settings sets '{name}', which is not a setting of pgqueue; {hint}")
    alias = _alias(said)
    _check_database(alias)
    return Said(alias, {NAMES[name]: value for name, value in said.items() if name != "DATABASE"})


def _alias(said: Mapping[str, Any]) -> str:
    """As PGQUEUE says, else the options of our backend in TASKS, else the default."""
    backends: Mapping[str, Any] = getattr(settings, "TASKS", {})
    ours = [backend.get("OPTIONS", {}) for backend in backends.values() if backend.get("BACKEND") == BACKEND]
    named = [source["DATABASE"] for source in (said, *ours) if "DATABASE" in source]
    if len(set(named)) > 1:
        raise ConfigError(
            f"PGQUEUE and TASKS name several databases for jobs, {' and '.join(sorted(set(named)))}, and a worker serves one"
        )
    return named[0] if named else DEFAULT_DB_ALIAS


def _check_database(alias: str) -> None:
    if alias not in connections:
        raise ConfigError(
            f"the jobs' database is '{alias}', by PGQUEUE or TASKS, and DATABASES has {', '.join(sorted(connections))}"
        )
    vendor = connections[alias].vendor
    if vendor != "postgresql":
        raise ConfigError(
            f"the Django database '{alias}' is {vendor}, and jobs live in PostgreSQL: name another one of DATABASES, as in "
            "PGQUEUE = {'DATABASE': 'jobs'}"
        )


def _address(conn: Any) -> str:
    """The database as libpq reads it, with all that Django would connect with."""
    try:
        parameters = conn.get_connection_params()
    except ImproperlyConfigured as error:
        raise ConfigError(f"the Django database '{conn.alias}' cannot be used: {error}") from None
    return db.conninfo(parameters, role=conn.settings_dict["OPTIONS"].get("assume_role"))
