"""Statements of people who look at a queue or give it orders."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pgqueue.job import State
from pgqueue.queries.statement import Statement, Texts, sql_file


def listed(states: Iterable[State]) -> str:
    """States as SQL writes them, for a text that is planned anew for each choice."""
    return ", ".join(f"'{state}'" for state in states)


class OpsQueries(Texts):
    """Questions and orders: the files of sql/ops, and sql/bench for the measurements."""

    def cancel(self, job_id: str, *, reason: str, kill: bool = False) -> Statement:
        return self._say("ops/cancel", id=job_id, reason=reason, kill=kill)

    def retry(self, job_id: str) -> Statement:
        return self._say("ops/retry", id=job_id)

    def find(self, ending: str) -> Statement:
        return self._say("ops/find", ending=ending)

    def attempts(self, job_id: str) -> Statement:
        return self._say("ops/attempts", id=job_id)

    def audit(self, job_id: str) -> Statement:
        return self._say("ops/audit", id=job_id)

    def why(self, job_id: str, *, count_limit: int) -> Statement:
        return self._say("ops/why", id=job_id, count_limit=count_limit)

    def jobs_window(self, states: Sequence[State], **wanted: Any) -> Statement:
        """states: those whose jobs lie in the tables that are looked through."""
        live = str(any(not state.ended for state in states)).lower()
        text = self.text("ops/jobs/window", live=live, states=listed(states))
        return Statement(text, wanted)

    def jobs_of_state(self, index: str, **wanted: Any) -> Statement:
        """index: the file that walks along it."""
        return Statement(self.text("ops/jobs/of_state", source=sql_file(f"ops/jobs/{index}.sql")), wanted)

    def ago(self, seconds: float) -> Statement:
        return self._say("ops/jobs/ago", seconds=seconds)

    def in_index_order(self) -> Statement:
        return self._say("ops/jobs/in_index_order")

    def pause(self, queue: str) -> Statement:
        return self._say("ops/pause", queue=queue)

    def resume(self, queue: str) -> Statement:
        return self._say("ops/resume", queue=queue)

    def purge_window(self, state: State, states: Sequence[State], **wanted: Any) -> Statement:
        """states: as in jobs_window."""
        table, finished_at = ("history", "finished_at") if state.ended else ("job", "null::timestamptz")
        text = self.text("ops/jobs/purge_window", table=table, finished_at=finished_at, states=listed(states))
        return Statement(text, {"state": state, **wanted})

    def purge(self, ids: Sequence[str], **wanted: Any) -> Statement:
        return self._say("ops/purge", ids=list(ids), **wanted)

    def purge_history(self, ids: Sequence[str], times: Sequence[datetime], **wanted: Any) -> Statement:
        """times: when they ended."""
        return self._say("ops/purge_history", ids=list(ids), times=list(times), **wanted)

    def stats_totals(self, *, count_limit: int) -> Statement:
        return self._say("ops/stats_totals", count_limit=count_limit)

    def stats_throughput(self) -> Statement:
        return self._say("ops/stats_throughput")

    def stats_queues(self, *, queue_limit: int, count_limit: int) -> Statement:
        return self._say("ops/stats_queues", queue_limit=queue_limit, count_limit=count_limit)

    def stats_sample(self, *, percent: float) -> Statement:
        return self._say("ops/stats_sample", percent=percent)

    def stats_sample_dead(self, *, percent: float) -> Statement:
        return self._say("ops/stats_sample_dead", percent=percent)

    def stats_workers(self, *, limit: int, count_limit: int) -> Statement:
        return self._say("ops/stats_workers", limit=limit, count_limit=count_limit)

    def stats_current(self, workers: Sequence[str], *, limit: int) -> Statement:
        return self._say("ops/stats_current", workers=workers, limit=limit)

    def stats_upcoming(self, *, limit: int) -> Statement:
        return self._say("ops/stats_upcoming", limit=limit)

    def stats_failures(self, *, limit: int) -> Statement:
        return self._say("ops/stats_failures", limit=limit)

    def doctor(self, question: str, **params: Any) -> Statement:
        """One file of sql/doctor."""
        return self._say(f"ops/doctor/{question}", **params)

    def bench(self, question: str, **params: Any) -> Statement:
        """One file of sql/bench."""
        return self._say(f"bench/{question}", **params)
