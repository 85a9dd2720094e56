"""The model must be able to fail: known mistakes are made in a copy of the statements, and the machine finds each of them."""

from dataclasses import dataclass

import pytest
from hypothesis import Phase, settings

from pgqueue.queries import Queries
from tests.model.machine import run_machine
from tests.model.world import World

pytestmark = pytest.mark.slow

EXAMPLES = 400  # most are found by the first ten; always the same ones, so that none gets away by bad luck
SUSPECT = "suspect_since < now() - %(grace_s)s * interval '1 second'"
KNOWN = "and task <> all (%(unknown)s::text[])"
DRAWN = "nextval('\"pgqueue\".job_seq')"


@dataclass(frozen=True)
class Mutant:
    """A mistake: where a statement reads `old`, which it does once, it reads `new`. `files` are names apart by spaces."""

    name: str
    files: str
    old: str
    new: str

    def text(self, queries: Queries, file: str, fragments: dict[str, str]) -> str:
        """The statement, with the mistake if it is one of those."""
        text = Queries.text(queries, file, **fragments)
        if file not in self.files.split():
            return text
        assert text.count(self.old) == 1, f"{file}.sql does not read {self.old!r} once: bring the mutant up to date"
        return text.replace(self.old, self.new)


MUTANTS = (
    Mutant("a finish without the token", "finish", "and job.claim_token = done.claim_token", ""),
    Mutant("a finish without the worker", "finish", "and job.worker = %(worker)s", ""),
    Mutant("a settle without the token", "settle", "and job.claim_token = verdict.claim_token", ""),
    Mutant("a settle without the worker", "settle", "and job.worker = %(worker)s", ""),
    Mutant("progress without the token", "progress", "and job.claim_token = reported.claim_token", ""),
    Mutant("a revoke without a new token", "revoke", "set claim_token = claim_token + 1", "set claim_token = claim_token"),
    Mutant("a hand-back without the token", "hand_back", "  and claim_token = %(token)s\n", ""),
    Mutant("a hand-back that costs an attempt", "hand_back", "attempt = attempt - 1,", ""),
    Mutant("a hand-back to nobody", "hand_back", "      and other.lease_until > now()\n", ""),
    Mutant("a hand-back to the same code", "hand_back", "other.code is distinct from", "true or other.code is distinct from"),
    Mutant("a hand-back that undoes a cancel", "hand_back", "  and cancel_requested_at is null\n", ""),
    Mutant("a claim without a new token", "claim", "claim_token = claim_token + 1,", ""),
    Mutant("a claim by a dead worker", "claim", "id = %(worker)s and state = 'alive'", "id = %(worker)s"),
    Mutant("a claim from a paused queue", "claim", "and paused_at is not null", "and false"),
    Mutant("a claim of the lowest priority", "claim", "order by place", "order by place desc"),
    Mutant("a claim of the newest", "claim", "order by job.seq", "order by job.seq desc"),
    Mutant("a look at the first queue only", "heads", "queue > head.queue", "false"),
    Mutant("a look at one priority of each queue", "heads", "priority < head.priority", "false"),
    Mutant("a look at tasks that are unknown", "heads", f"queue = named.queue {KNOWN}", "queue = named.queue"),
    Mutant("a look at paused queues", "heads", "and paused_at is not null", "and false"),
    Mutant("a rescue without a new token", "rescue", "    claim_token = claim_token + 1,\n", ""),
    Mutant("a rescue that costs an attempt", "rescue", "    attempt = attempt - 1,\n", ""),
    Mutant("a rescue from the living", "rescue", "and worker.state = 'dead' and", "and"),
    Mutant("a rescue that counts no crash", "rescue", "crashes = orphan.crashes,", "crashes = job.crashes,"),
    Mutant("a release that costs an attempt", "settle", "attempt = job.attempt - held.refund,", "attempt = job.attempt,"),
    Mutant("a retry that keeps its place", "settle", f"else {DRAWN} end,", "else job.seq end,"),
    Mutant("a retry that forgets the cancel", "settle", "then 'cancelled' else verdict.state end", "then verdict.state end"),
    Mutant("a burial without a second look", "bury", f"and (lease_until < now() or {SUSPECT})", ""),
    Mutant("a free session lock is death", "beat", SUSPECT, "suspect_since is not null"),
    Mutant("a judge who was not heard", "beat", "and exists (select from judge)", ""),
    Mutant("a heartbeat that stays suspect", "beat", "suspect_since = null,", ""),
    Mutant("a heartbeat from the future", "beat", "heartbeat_at > now() + interval '5 seconds'", "false"),
    Mutant("a lease from the future", "suspect", "least(lease_until, now() + (lease_until - heartbeat_at))", "lease_until"),
    Mutant("a promotion to an old place", "promote", f", seq = {DRAWN}", ""),
    Mutant("a second life that begins at token 0", "retry", "id, claim_token, created_at, 'queued'", "id, 0, created_at, 'queued'"),
    Mutant("a running job is cancelled at once", "cancel", "and target.state <> 'running'", ""),
    Mutant("a departure that leaves jobs behind", "depart", "job.worker = %(worker)s and job.state = 'running'", "false"),
)  # fmt: skip


def find(world: World) -> None:
    """Run the machine until it finds something."""
    with pytest.raises(Exception):  # noqa: B017 (a mistake may show as any error of the database)
        run_machine(
            world,
            settings=settings(max_examples=EXAMPLES, database=None, derandomize=True, phases=[Phase.generate]),
        )


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_in_a_statement_is_found(world: World, mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = world.queries
    for file in mutant.files.split():
        mutant.text(queries, file, {})  # it still fits
    monkeypatch.setattr(queries, "text", lambda file, /, **fragments: mutant.text(queries, file, fragments))
    find(world)


def test_a_missing_unique_index_is_found(world: World) -> None:
    world.eye.execute("drop index pgqueue.job_unique")
    for conflict in ("ignore", "replace"):  # which cannot be said without the index
        text = world.queries.insert_one({}, on_duplicate=conflict, ring="never").sql
        key = next(key for key, known in world.queries._texts.items() if known == text)
        start, end = text.index("  on conflict"), text.index("  returning")
        world.queries._texts[key] = text[:start] + text[end:]
    find(world)
