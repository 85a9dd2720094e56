"""No job sees what another one set in context variables."""

import decimal
from contextvars import ContextVar, copy_context

from pgqueue.worker.child.contexts import Contexts

TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


def test_a_job_begins_with_what_stood_there_when_the_app_was_imported() -> None:
    def imported() -> Contexts:
        TENANT.set("from the import")
        return Contexts()

    contexts = copy_context().run(imported)
    assert contexts.fresh().run(TENANT.get) == "from the import"
    assert TENANT.get() == "nobody"


def test_what_came_after_the_import_is_not_seen() -> None:
    contexts = copy_context().run(Contexts)
    later = copy_context()
    later.run(TENANT.set, "later")
    assert later.run(contexts.fresh).run(TENANT.get) == "nobody"


def test_what_a_job_sets_the_next_one_does_not_see() -> None:
    contexts = copy_context().run(Contexts)
    contexts.fresh().run(TENANT.set, "mine")
    assert contexts.fresh().run(TENANT.get) == "nobody"


def precision(places: int | None = None) -> int:
    """Of decimal, here; changed first, in place, if it is said to what."""
    if places is not None:
        decimal.getcontext().prec = places
    return decimal.getcontext().prec


def test_the_precision_of_a_job_is_its_own() -> None:
    contexts = copy_context().run(Contexts)
    assert contexts.fresh().run(precision, 3) == 3
    assert contexts.fresh().run(precision) == decimal.DefaultContext.prec


def test_the_precision_that_the_app_set_holds_in_every_job() -> None:
    def imported() -> Contexts:
        decimal.setcontext(decimal.Context(prec=7))
        return Contexts()

    contexts = copy_context().run(imported)
    assert [contexts.fresh().run(precision, places) for places in (None, 3, None)] == [7, 3, 7]
