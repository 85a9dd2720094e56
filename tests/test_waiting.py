"""Waits that a signal ends, also one that comes as they begin: Python sees it when the wait is over."""

import concurrent.futures
import inspect
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from pgqueue.channels import listener
from pgqueue.events import loop
from pgqueue.waiting import LOOK_UP_S, answer_of, wait_for


class Looked(Exception):
    """The thread looked up."""


def interrupting(wait: Callable[..., Any]) -> Callable[..., Any]:
    """As a signal that was missed when the wait began: its handler raises once that is over."""

    def waits(*args: Any) -> Any:
        wait(*args)
        raise Looked

    return waits


def test_a_signal_that_was_missed_ends_a_wait_for_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    event = threading.Event()
    monkeypatch.setattr(event, "wait", interrupting(event.wait))
    with pytest.raises(Looked):
        wait_for(event, None)


def test_a_signal_that_was_missed_ends_a_wait_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrent.futures, "wait", interrupting(concurrent.futures.wait))
    with pytest.raises(Looked):
        answer_of(concurrent.futures.Future[None]())


@pytest.mark.parametrize("timeout_s", [0.0, 0.01, LOOK_UP_S, LOOK_UP_S + 0.01])
def test_it_waits_as_long_as_it_is_told(timeout_s: float) -> None:
    began = time.monotonic()
    assert not wait_for(threading.Event(), timeout_s)
    assert time.monotonic() - began >= timeout_s


def test_what_is_there_is_given_at_once() -> None:
    event, future = threading.Event(), concurrent.futures.Future[int]()
    event.set()
    future.set_result(7)
    assert wait_for(event, None) and wait_for(event, 0) and answer_of(future) == 7


def test_what_comes_meanwhile_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    future = concurrent.futures.Future[None]()
    monkeypatch.setattr(concurrent.futures, "wait", lambda *_: future.set_exception(TimeoutError("of the work itself")))
    with pytest.raises(TimeoutError, match="of the work itself"):
        answer_of(future)


@pytest.mark.parametrize(
    ("module", "call"), [(listener.Listener.wait, "wait_for("), (loop.Subscribed.__iter__, "answer_of(")]
)
def test_loops_of_callers_wait_so(module: Any, call: str) -> None:
    source = inspect.getsource(module)
    assert call in source and ".wait(" not in source and ".result()" not in source
