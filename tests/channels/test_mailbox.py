"""A mailbox: what a slow listener gets, in every order of coming and taking."""

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgqueue import Gap, Notification, PgQueueError
from pgqueue.channels import mailbox
from pgqueue.channels.mailbox import Ended, Mailbox
from pgqueue.db.listening import Nudge


def nothing() -> None: ...


def everything(box: Mailbox) -> list[Any]:
    found: list[Any] = []
    while (item := box.take(nothing)) is not None:
        found.append(item)
    return found


@given(steps=st.lists(st.sampled_from(["put", "take", "lose"]), max_size=60))
def test_what_is_not_there_is_a_gap_that_comes_after_it(steps: list[str]) -> None:
    """The reader takes its state at each Gap: so all that was put before that is known, and nothing that it lacks is later."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mailbox, "MAILBOX_ITEMS", 3)
        box, sent, known = Mailbox({"c": "c"}), 0, set[int]()

        def read(item: Any) -> None:
            nonlocal known
            known = set(range(sent)) if isinstance(item, Gap) else known | ({item.json} if item else set())

        for step in steps:
            if step == "put":
                box.put(Notification("c", str(sent)))
                sent += 1
            elif step == "lose":
                box.miss("reconnected")
            else:
                read(box.take(nothing))
        for item in everything(box):
            read(item)
        assert known == set(range(sent))


def test_gaps_do_not_pile_up() -> None:
    box = Mailbox({"a": "a", "b": "b"})
    for _ in range(3):
        box.miss("reconnected")
    box.put(Notification("a", "1"))
    box.miss("fail-over")
    assert everything(box) == [Gap(None, "reconnected"), Notification("a", "1"), Gap(None, "fail-over")]


def test_nothing_grows_without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MAILBOX_ITEMS", 3)
    box = Mailbox({"c": "c"})
    for number in range(50):
        box.put(Notification("c", str(number)))
        box.miss("reconnected")
    assert len(everything(box)) == 4


def test_a_waker_is_called_once_and_not_for_what_is_there() -> None:
    box, woken = Mailbox({"c": "c"}), []
    assert box.take(lambda: woken.append(1)) is None
    box.put(Notification("c", "1"))
    box.put(Notification("c", "2"))
    assert woken == [1] and box.take(lambda: woken.append(2)) == Notification("c", "1")
    box.end(None)
    assert woken == [1]


def test_what_is_there_comes_before_the_end() -> None:
    box = Mailbox({"c": "c"})
    box.put(Notification("c", "1"))
    box.end(error := PgQueueError("over"))
    box.end(None)
    box.put(Notification("c", "2"))
    assert box.take(nothing) == Notification("c", "1")
    for _ in range(2):
        with pytest.raises(Ended) as caught:
            box.take(nothing)
        assert caught.value.error is error


def test_large_payloads_fill_it_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MAILBOX_CHARACTERS", 100)
    box = Mailbox({"c": "c"})
    for _ in range(5):
        box.put(Notification("c", "x" * 60))
    assert everything(box) == [*2 * [Notification("c", "x" * 60)], Gap("c", "too slow")]
    box.put(Notification("c", "1"))
    assert everything(box) == [Notification("c", "1")]


def test_a_nudge_that_is_gone_touches_nobodys_file() -> None:
    """The collector finalizes objects of a circle in any order: who is to be woken may go before who wakes it."""
    nudge = Nudge()
    ends = {nudge.fd, nudge._waker_fd}
    nudge.__del__()
    taken, waker = os.pipe()
    assert {taken, waker} == ends  # the numbers are a stranger's now
    os.set_blocking(taken, False)
    nudge.give()
    with pytest.raises(BlockingIOError):
        os.read(taken, 1)
    nudge.fd, nudge._waker_fd = taken, waker  # for its own finalizer
