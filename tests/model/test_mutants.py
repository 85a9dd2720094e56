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
    Mutant("a finish without the token", "worker/finish", "and job.claim_token = done.claim_token", ""),
    Mutant("a finish without the worker", "worker/finish", "and job.worker = %(worker)s", ""),
    Mutant("a settle without the token", "worker/settle", "and job.claim_token = verdict.claim_token", ""),
    Mutant("a settle without the worker", "worker/settle", "and job.worker = %(worker)s", ""),
    Mutant("progress without the token", "worker/progress", "and job.claim_token = reported.claim_token", ""),
    Mutant("a revoke without a new token", "worker/revoke", "set claim_token = claim_token + 1", "set claim_token = claim_token"),
    Mutant("a hand-back without the token", "worker/hand_back", "  and claim_token = %(token)s\n", ""),
    Mutant("a hand-back that costs an attempt", "worker/hand_back", "attempt = attempt - 1,", ""),
    Mutant("a hand-back to nobody", "worker/hand_back", "      and other.lease_until > now()\n", ""),
    Mutant("a hand-back to the same code", "worker/hand_back", "other.code is distinct", "true or other.code is distinct"),
    Mutant("a hand-back that undoes a cancel", "worker/hand_back", "  and cancel_requested_at is null\n", ""),
    Mutant("a claim without a new token", "worker/claim", "claim_token = claim_token + 1,", ""),
    Mutant("a claim by a dead worker", "worker/claim", "id = %(worker)s and state = 'alive'", "id = %(worker)s"),
    Mutant("a claim from a paused queue", "worker/claim", "and paused_at is not null", "and false"),
    Mutant("a claim of the lowest priority", "worker/claim", "order by place", "order by place desc"),
    Mutant("a claim of the newest", "worker/claim", "order by job.seq", "order by job.seq desc"),
    Mutant("a look at the first queue only", "worker/heads", "queue > head.queue", "false"),
    Mutant("a look at one priority of each queue", "worker/heads", "priority < head.priority", "false"),
    Mutant("a look at tasks that are unknown", "worker/heads", f"queue = named.queue {KNOWN}", "queue = named.queue"),
    Mutant("a look at paused queues", "worker/heads", "and paused_at is not null", "and false"),
    Mutant("a rescue without a new token", "lease/rescue", "    claim_token = claim_token + 1,\n", ""),
    Mutant("a rescue that costs an attempt", "lease/rescue", "    attempt = attempt - 1,\n", ""),
    Mutant("a rescue from the living", "lease/rescue", "and worker.state = 'dead' and", "and"),
    Mutant("a rescue that counts no crash", "lease/rescue", "crashes = orphan.crashes,", "crashes = job.crashes,"),
    Mutant("a release that costs an attempt", "worker/settle", "attempt = job.attempt - held.refund,", "attempt = job.attempt,"),
    Mutant("a retry that keeps its place", "worker/settle", f"else {DRAWN} end,", "else job.seq end,"),
    Mutant("a retry that forgets the cancel", "worker/settle", "then 'cancelled' else verdict.state end", "then verdict.state end"),
    Mutant("a burial without a second look", "lease/bury", f"and (lease_until < now() or {SUSPECT})", ""),
    Mutant("a free session lock is death", "lease/beat", SUSPECT, "suspect_since is not null"),
    Mutant("a judge who was not heard", "lease/beat", "and exists (select from judge)", ""),
    Mutant("a heartbeat that stays suspect", "lease/beat", "suspect_since = null,", ""),
    Mutant("a heartbeat from the future", "lease/beat", "heartbeat_at > now() + interval '5 seconds'", "false"),
    Mutant("a lease from the future", "lease/suspect", "least(lease_until, now() + (lease_until - heartbeat_at))", "lease_until"),
    Mutant("a promotion to an old place", "worker/promote", f", seq = {DRAWN}", ""),
    Mutant("a second life begins at token 0", "ops/retry", "id, claim_token, created_at, 'queued'", "id, 0, created_at, 'queued'"),
    Mutant("a running job is cancelled at once", "ops/cancel", "and target.state <> 'running'", ""),
    Mutant("a departure that leaves jobs behind", "lease/depart", "job.worker = %(worker)s and job.state = 'running'", "false"),
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
