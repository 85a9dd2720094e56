"""What a measurement found, and the little arithmetic on samples that all of them share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Target:
    """A bound that a figure must keep: at least `bound`, or at most."""

    bound: float
    at_most: bool = False

    def met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {show(self.bound)}"


def at_least(bound: float) -> Target:
    """Larger is better."""
    return Target(bound)


def at_most(bound: float) -> Target:
    """Smaller is better."""
    return Target(bound, at_most=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One figure. floor_ratio: its share of what the database alone does, in the same run. samples: in `unit`."""

    name: str
    value: float
    unit: str
    target: Target | None = None
    floor_ratio: float | None = None
    samples: Sequence[float] = ()

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.target.met(self.value)

    def cells(self) -> tuple[str, ...]:
        """For a table: name, value, unit, the least and the largest sample, share of the floor."""
        spread = f"{show(min(self.samples))} .. {show(max(self.samples))}" if len(self.samples) > 1 else ""
        ratio = "" if self.floor_ratio is None else f"{self.floor_ratio:.0%}"
        return self.name, show(self.value), self.unit, spread, ratio


def typical(
    name: str, samples: Sequence[float], unit: str, target: Target | None = None, *, floor: float | None = None
) -> Measurement:
    """The median of samples: one disturbed run does not move it. floor: the floor's own figure, in the same unit."""
    value = median(samples)
    ratio = value / floor if floor else None
    return Measurement(name=name, value=value, unit=unit, target=target, floor_ratio=ratio, samples=samples)


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that is not exceeded by `percent` of them (nearest rank): always a value that occurred."""
    return sorted(samples)[max(0, math.ceil(len(samples) * percent / 100) - 1)]


def show(value: float) -> str:
    """A number with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
