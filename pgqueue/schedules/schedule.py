"""What a schedule is, as code declares it: checked where it is declared, and told to the supervisor as a row."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal, Self, get_args

from pgqueue.client.enqueue import Call
from pgqueue.client.options import Given, Options, check_integer, check_name, check_text, seconds
from pgqueue.errors import InvalidOption
from pgqueue.schedules.cron import check_cron, check_zone
from pgqueue.schedules.times import When

Missed = Literal["once", "skip", "all"]
Overlap = Literal["skip", "allow", "queue"]

SHORTEST_EVERY_S = 0.1  # an interval; below it the firing itself is the load
MISSED_MOST = 100


class Scheduled(Given, total=False):
    """When, and the options of the jobs, for type checkers as keywords."""

    cron: str | None
    every: float | timedelta | None
    tz: str | tzinfo | None
    missed: Missed
    missed_most: int
    overlap: Overlap
    jitter: float | timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One schedule; as a row of the table `schedule`. Times are seconds."""

    name: str
    task: str
    cron: str | None = None
    every_s: float | None = None
    tz: str = "UTC"
    args: str = "[]"
    kwargs: str = "{}"
    options: str = "{}"
    """JSON text of what is not left to the default: see `stored`."""
    missed: str = "once"
    missed_most: int = MISSED_MOST
    overlap: str = "skip"
    """skip or allow. Of what waits for the last job the options say so: see `with_overlap`."""
    jitter_s: float = 0.0

    @classmethod
    def make(cls, name: object, *, task: str, call: Call, options: Options, **timing: Any) -> Self:
        """Check all of it; raises InvalidOption, which begins with the name."""
        name = check_name("the name of a schedule", name)
        try:
            columns = with_overlap(read(timing), stored(options))
            made = cls(name=name, task=task, args=call[0], kwargs=call[1], **columns)
            made.check()
        except InvalidOption as error:
            raise InvalidOption(f"schedule {name}: {error}") from None
        return made

    def check(self) -> None:
        """Raises InvalidOption for what can never run."""
        if (self.cron is None) == (self.every_s is None):
            raise InvalidOption("give cron= or every=, one of them")
        if self.when(datetime.now(UTC)).following(datetime.now(UTC)) is None:
            raise InvalidOption(f"cron={self.cron!r} never comes in the next fifty years")

    def when(self, anchor_at: datetime) -> When:
        """Its times, of an interval those after this moment."""
        return When(cron=self.cron, every_s=self.every_s, anchor_at=anchor_at, tz=self.tz)

    def as_json(self) -> dict[str, Any]:
        """As it travels from a child; `Schedule(**_)` reads it."""
        return asdict(self)

    @property
    def spec(self) -> str:
        """All of it as JSON text, the same for the same."""
        return json.dumps(self.as_json(), sort_keys=True, ensure_ascii=False)

    @property
    def fingerprint(self) -> str:
        """What changes with any part of it."""
        return hashlib.sha256(self.spec.encode()).hexdigest()[:32]


def read(timing: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that keywords such as cron= fill. Raises InvalidOption."""
    columns: dict[str, Any] = {}
    if (cron := timing.get("cron")) is not None:
        columns["cron"] = check_cron("cron", cron)
    if (every := timing.get("every")) is not None:
        columns["every_s"] = seconds("every", every)
        if columns["every_s"] < SHORTEST_EVERY_S:
            raise InvalidOption(f"every={columns['every_s']:g} is too short: at least {SHORTEST_EVERY_S} seconds")
        if timing.get("tz") is not None:
            raise InvalidOption("every= counts real time: tz= belongs to cron=")
    if "tz" in timing:
        columns["tz"] = check_zone("tz", timing["tz"])
    for option, choices in (("missed", Missed), ("overlap", Overlap)):
        if option in timing:
            columns[option] = _choice(option, timing[option], get_args(choices))
    if "jitter" in timing:
        columns["jitter_s"] = seconds("jitter", timing["jitter"])
    if "missed_most" in timing:
        columns["missed_most"] = check_integer("missed_most", timing["missed_most"], low=1, high=1000)
    return columns


def with_overlap(columns: Mapping[str, Any], options: str) -> dict[str, Any]:
    """The columns, with the options, which hold overlap="queue". The row of such a schedule says "allow": its jobs are made at
    once, and so they are by a worker of an older version, which knows no gates of schedules.
    """
    said = json.loads(options)
    if (overlap := columns.get("overlap")) is None:
        return {**columns, "options": options}
    said.pop("overlap", None)
    if overlap == "queue":
        said["overlap"], overlap = overlap, "allow"
    return {**columns, "overlap": overlap, "options": json.dumps(said, ensure_ascii=False)}


def overlap_of(overlap: str, options: str) -> str:
    """What App.schedule was told, of a row."""
    return "queue" if overlap == "allow" and json.loads(options).get("overlap") == "queue" else overlap


def _choice(option: str, value: object, choices: Sequence[str]) -> str:
    if value not in choices:
        raise InvalidOption(f"{option}={value!r} is not understood: take one of {', '.join(choices)}")
    return check_text(option, value)


def stored(options: Options) -> str:
    """What a job of the schedule says besides its call, as JSON text. Raises InvalidOption for what belongs to one call."""
    for option in ("conn", "delay", "at", "debounce", "once_per", "key"):
        if getattr(options, option) is not None:
            raise InvalidOption(f"{option}= is of one call, not of a schedule")
    if options.on_duplicate == "replace":
        raise InvalidOption(
            "on_duplicate='replace' is of one call: no worker may change a job that another program made"
        )
    if isinstance(options.expires, datetime):
        raise InvalidOption("expires= takes seconds here, from each run on")
    columns = options.columns(where="schedule")
    headers = columns["headers"]
    said = {
        **{name: columns[name] for name in ("max_attempts", "timeout_s", "expires_s")},
        "queue": options.queue, "priority": options.priority, "unique": options.unique,
        "on_duplicate": options.on_duplicate, "headers": headers and json.loads(headers),
    }  # fmt: skip
    return json.dumps({name: value for name, value in said.items() if value is not None}, ensure_ascii=False)


def options_of(text: str) -> Options:
    """As `stored` wrote them. Raises InvalidOption where a row was edited by hand."""
    try:
        said = json.loads(text)
        given = {option: said.get(option) for option in ("queue", "priority", "max_attempts", "unique", "on_duplicate")}
        made = Options.make("schedule", timeout=said.get("timeout_s"), expires=said.get("expires_s"), **given)
        return replace(made, headers=said.get("headers"))  # which may hold some of our own
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidOption(f"the options of a schedule cannot be read: {error}") from None
