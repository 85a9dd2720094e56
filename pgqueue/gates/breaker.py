"""When a task is held up because too many of its runs fail."""

from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Any

from pgqueue.client.options import check_integer, seconds
from pgqueue.codec.numeric import as_float
from pgqueue.errors import InvalidOption

MOST_RUNS = 1_000_000
LEAST_SPAN_S = 0.05  # the database counts in twentieths of `per`


@dataclass(frozen=True, slots=True)
class Breaker:
    """When the gate of a task closes by itself, in all workers together, and for how long.

    It closes once at least `of` runs have ended within `per` seconds and this share of them has failed, such as 0.5. After `rest`
    seconds one job is tried: if it succeeds the gate opens, if it fails the gate closes for `rest` again. Raises InvalidOption.
    """

    share: float
    _: KW_ONLY
    of: int
    per: float | timedelta
    rest: float | timedelta

    def __post_init__(self) -> None:
        share = as_float(self.share)
        if share is None or not 0 < share <= 1:
            raise InvalidOption(
                f"a breaker takes the share of runs that failed, above 0 and at most 1, as in Breaker(0.5, ...), not "
                f"{self.share!r:.60}"
            )
        object.__setattr__(self, "share", share)
        object.__setattr__(self, "of", check_integer("of", self.of, low=1, high=MOST_RUNS))
        for option in "per", "rest":
            span = seconds(option, getattr(self, option))
            if span < LEAST_SPAN_S:
                raise InvalidOption(f"{option}={span:g} s of a breaker is too short: give {LEAST_SPAN_S:g} s or more")
            object.__setattr__(self, option, span)

    @property
    def columns(self) -> dict[str, Any]:
        """What it is in the rule of its task."""
        return {
            "break_share": self.share, "break_of": self.of, "break_per_s": self.per, "break_rest_s": self.rest,
        }  # fmt: skip
