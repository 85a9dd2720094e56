"""Every setting with its default, its unit and its reason, in one frozen value; the only reader of the environment."""

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, Self, get_args

from pgqueue.address import libpq
from pgqueue.errors import ConfigError, InvalidOption

Notify = Literal["idle", "always", "never"]
# Of the server's queue of notifications; when that is full every commit that rings fails.
NOTIFY_SHARE = 0.1

COUNTS = (
    "pool_size", "max_payload_bytes", "warn_payload_bytes", "async_jobs", "keep_succeeded_days", "keep_dead_days",
    "keep_events_days", "keep_events_days_at_most",
)  # fmt: skip
# Channels and roles are named after the schema and PostgreSQL cuts names at 63 bytes; lower case so that psql needs no quotes.
SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,47}")

FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")

SECRET_NAMES = (
    r"(?i:passw|passphrase|pwd|secret|token|api_?key|credential|authori[sz]ation|cookie|session_?id|bearer|jwt|dsn)"
    r"|(?i:(?:^|[_-])key$)|Key$"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """What an App runs with. Sources, strongest first: arguments of App, environment, [tool.pgqueue], these defaults."""

    dsn: str | None = dataclasses.field(default=None, repr=False)
    """libpq connection string or URL; None means the project's embedded server."""
    direct_dsn: str | None = dataclasses.field(default=None, repr=False)
    """Where the same database is reached past a connection pooler: listening to channels needs a session of its own."""
    app: str | None = None
    """`module` or `module:attribute` where the command line finds the App."""
    schema: str = "pgqueue"
    """PostgreSQL schema that holds all tables."""
    notify: Notify = "idle"
    """Ring on defer: if a worker sleeps, always, or never (polling alone)."""
    pool_size: int = 8
    """Connections at most that a process opens for defers without a caller's connection; opened when needed."""
    pool_timeout_s: float = 10.0
    """How long a defer waits for one of them: longer than a fail-over's hiccup, shorter than a web request's patience. With the
    answer it takes 4 seconds more at most, on connections of our own; then DatabaseUnavailable."""
    max_payload_bytes: int = 1_000_000
    """Largest arguments, result or headers of one job: a queue carries references, not files."""
    warn_payload_bytes: int = 64_000
    """Larger arguments cause a warning, once per task: above it every claim and every look at a job gets slow."""
    check_types: bool = True
    """Whether `defer` refuses an argument of another type than declared, as None for an int; else it need only be readable."""
    secret_names: str = SECRET_NAMES
    """A regular expression: parameters, keys and headers whose name it finds are shown as stars, as are those of `redact=`."""
    async_jobs: int = 100
    """Async jobs that a child of a worker runs at once, at most: no more than their pool has connections. `--async` goes before."""
    keep_succeeded_days: int = 7
    """Retention of succeeded jobs; a week answers "did it run last weekend?"."""
    keep_dead_days: int = 30
    """Retention of dead and cancelled jobs and of failed attempts."""
    keep_events_days: int = 7
    """Retention of events that all who subscribed have passed: so far back they can be read again."""
    keep_events_days_at_most: int = 30
    """Retention of events that somebody has not yet passed. What is lost then is counted, and the doctor is red."""
    on_worker_start: tuple[str, ...] = ()
    """`module:function` names of what a worker calls once, in a process of its own, before its first job. They take no arguments
    and may be async; where one fails the worker does not start."""
    on_worker_stop: tuple[str, ...] = ()
    """The same for a worker's end, after its last job; the last one first. All of them may take three seconds."""

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Merge arguments, environment and [tool.pgqueue]; raises ConfigError naming the setting and its source."""
        known = {field.name for field in dataclasses.fields(cls)}
        settings: dict[str, object] = {}
        address = direct = ""
        for source, values in (
            ("[tool.pgqueue] in pyproject.toml", _project_settings()),
            ("the environment", _environment()),
            ("App()", {name: value for name, value in overrides.items() if value is not None}),
        ):
            for name in values.keys() - known:
                raise ConfigError(f"{source} sets '{name}', which is not a setting of pgqueue{_suggest(name, known)}")
            settings |= values
            address = source if "dsn" in values else address
            direct = source if "direct_dsn" in values else direct
        if isinstance(dsn := settings.get("dsn"), str):
            settings["dsn"] = libpq(dsn, source=_variable() if address == "the environment" else f"dsn of {address}")
        if isinstance(dsn := settings.get("direct_dsn"), str):
            settings["direct_dsn"] = libpq(dsn, source=f"direct_dsn of {direct}")
        for name in ("on_worker_start", "on_worker_stop"):
            if isinstance(given := settings.get(name), list):
                settings[name] = tuple(given)
        config = cls(**settings)  # type: ignore[arg-type]
        config._check()
        return config

    def _check(self) -> None:
        for name in ("dsn", "direct_dsn"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                # An empty one would start the embedded server in the place of the database that was meant.
                raise InvalidOption(
                    f"{name} must be a connection string such as postgresql://user@host/database, or left out"
                )
        fits = isinstance(self.schema, str) and SCHEMA_NAME.fullmatch(self.schema)
        if not fits or self.schema.startswith("pg_") or self.schema == "information_schema":
            raise InvalidOption(
                f"schema {self.schema!r} cannot be used: take lower-case letters, digits and _ (at most 48), not starting with pg_"
            )
        if self.notify not in get_args(Notify):
            raise InvalidOption(f"notify must be one of {', '.join(get_args(Notify))}, not {self.notify!r}")
        for name in COUNTS:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidOption(f"{name} must be a whole number of at least 1, not {value!r}")
        for name in ("on_worker_start", "on_worker_stop"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(
                isinstance(each, str) and FUNCTION.fullmatch(each) for each in value
            ):
                raise InvalidOption(f"{name} takes a list of names as in ['shop.hooks:warm_up'], not {value!r}")
        if not isinstance(self.check_types, bool):
            raise InvalidOption(f"check_types must be true or false, not {self.check_types!r}")
        if not isinstance(self.pool_timeout_s, int | float) or not 0 < self.pool_timeout_s < 86_400:
            raise InvalidOption(f"pool_timeout_s must be a number of seconds, not {self.pool_timeout_s!r}")
        try:
            re.compile(self.secret_names)
        except (re.error, TypeError) as error:
            raise InvalidOption(f"secret_names must be a regular expression: {error}") from None

    @property
    def jobs_channel(self) -> str:
        """The doorbell of workers."""
        return f"{self.schema}_jobs"

    @property
    def events_channel(self) -> str:
        """The doorbell of those who read the log of events."""
        return f"{self.schema}_events"

    @property
    def doorbells(self) -> tuple[str, ...]:
        """The channels that are ours alone."""
        return self.jobs_channel, self.results_channel, self.events_channel

    @property
    def roles(self) -> dict[str, str]:
        """What `pgqueue migrate --roles` makes. Roles belong to the whole server, so they carry the schema's name."""
        return {role: f"{self.schema}_{role}" for role in ("owner", "producer", "worker", "reader", "admin")}

    @property
    def results_channel(self) -> str:
        """The doorbell of callers that wait for a result."""
        return f"{self.schema}_results"


def project_root(start: Path | None = None) -> Path:
    """The nearest folder upwards with a pyproject.toml or .git, else the current one."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() or (folder / ".git").exists():
            return folder
    return here


def environment(name: str) -> str | None:
    """One variable of the environment, None when unset or empty. Other modules ask here, so that all reads are in one file."""
    return os.environ.get(name) or None


def environment_with(*, dsn: str, schema: str) -> dict[str, str]:
    """The whole environment, for a process that is to use another database and schema than ours."""
    return os.environ | {"PGQUEUE_DSN": dsn, "PGQUEUE_SCHEMA": schema}


def environment_for(*, app: str, path: Iterable[str]) -> dict[str, str]:
    """The whole environment, for a worker of this app; path: folders from which it is to import before all others."""
    folders = [*path, *filter(None, [environment("PYTHONPATH")])]
    return os.environ | {"PGQUEUE_APP": app, "PYTHONPATH": os.pathsep.join(folders)}


_DSN_VARIABLES = ("PGQUEUE_DSN", "DATABASE_URL")


def _variable() -> str:
    """Which variable names the database."""
    return next(filter(environment, _DSN_VARIABLES))


def _environment() -> dict[str, object]:
    names = {
        "dsn": _DSN_VARIABLES,
        "direct_dsn": ("PGQUEUE_DIRECT_DSN",),
        "app": ("PGQUEUE_APP",),
        "schema": ("PGQUEUE_SCHEMA",),
        "notify": ("PGQUEUE_NOTIFY",),
        "async_jobs": ("PGQUEUE_ASYNC_JOBS",),
    }
    found = {setting: next(filter(None, map(environment, variables)), None) for setting, variables in names.items()}
    return {
        setting: _number(value) if setting in COUNTS else value for setting, value in found.items() if value is not None
    }


def _number(text: str) -> object:
    """As a number if it is one; else the check of the setting shows what stood there."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else text


def _project_settings() -> Mapping[str, object]:
    file = project_root() / "pyproject.toml"
    if not file.is_file():
        return {}
    import tomllib  # most programs name their database otherwise

    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
    tools = content.get("tool", {})
    table = tools.get("pgqueue", {}) if isinstance(tools, dict) else None
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: tool.pgqueue must be a table, as in [tool.pgqueue]")
    return table


def _suggest(name: str, known: set[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; there are {', '.join(sorted(known))}"
