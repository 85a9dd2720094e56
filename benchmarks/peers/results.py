"""What a run has found out about each peer."""

from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from benchmarks.peers.drain import Drained
from benchmarks.peers.peer import Peer
from benchmarks.peers.pinned import Pinned
from pgqueue.bench.measurement import percentile

STARTING_S = 3  # in which a worker comes up and works off what has come meanwhile


@dataclass
class Results:
    """One peer's samples, and why it takes no further part, if so. drained: by number of processes."""

    peer: Peer
    jobs: int = 0
    drained: dict[int, list[Drained]] = field(default_factory=dict)
    singles: list[float] = field(default_factory=list)
    latencies_ms: list[list[float]] = field(default_factory=list)
    pinned: Pinned | None = None
    versions: dict[str, str] = field(default_factory=dict)
    reason: str | None = None

    def figures(self) -> dict[str, float]:
        """The medians; percentiles of latency are those of each repeat."""
        found = {f"drain_{n}": median(each.rate for each in drains) for n, drains in self.drained.items()}
        if self.singles:
            found["enqueue"] = median(self.singles)
        bulk = [each.bulk_rate for drains in self.drained.values() for each in drains]
        if bulk and self.peer.bulk:
            found["bulk"] = median(bulk)
        for percent in (50, 99) if self.latencies_ms else ():
            found[f"p{percent}_ms"] = median(percentile(each, percent) for each in self.latencies_ms)
        return found | self._pinned_figures()

    def _pinned_figures(self) -> dict[str, float]:
        """What was enqueued; what ran in the first tenth of the time, when little is dead yet, and in the last; what is left."""
        if self.pinned is None:
            return {}
        seconds = self.pinned.seconds
        tenth = max(1, seconds // 10)
        return {
            "pinned_load": self.pinned.enqueued / seconds,
            "pinned_first": fmean(self.pinned.ran[STARTING_S:][:tenth] or self.pinned.ran),
            "pinned_last": fmean(self.pinned.ran[-tenth:]),
            "pinned_backlog": self.pinned.backlog,
        }

    def as_json(self) -> dict[str, Any]:
        peer = self.peer
        about = {name: getattr(peer, name) for name in ("store", "keeps", "settings", "variables", "source", "bulk")}
        samples = {
            "drain": {n: [each.rate for each in drains] for n, drains in self.drained.items()},
            "bulk": [each.bulk_rate for drains in self.drained.values() for each in drains],
            "enqueue": self.singles,
            "latency_ms": self.latencies_ms,
            "pinned": self.pinned and vars(self.pinned),
        }
        found = {"figures": self.figures(), "samples": samples, "jobs": self.jobs, "reason": self.reason}
        return {"name": peer.name, **about, "versions": self.versions, **found}
