"""The page on which each thread of a child writes what it runs."""

import os
from collections.abc import Iterator

import pytest

from pgqueue.job import new_id
from pgqueue.worker.link.running_slots import WIDTH, RunningSlots, blank

THREADS = 3


@pytest.fixture
def fd() -> Iterator[int]:
    made = blank(slots=THREADS)
    yield made
    os.close(made)


@pytest.fixture
def page(fd: int) -> Iterator[RunningSlots]:
    """The supervisor's view of it."""
    opened = RunningSlots(fd, slots=THREADS)
    yield opened
    opened.close()


def test_a_new_page_names_no_job(fd: int, page: RunningSlots) -> None:
    assert os.fstat(fd).st_size == WIDTH * THREADS
    assert page.running() == set()


def test_a_slot_names_the_job_that_was_written_last(page: RunningSlots) -> None:
    first, second = new_id(), new_id()
    page.write(1, first)
    assert page.running() == {first}
    page.write(1, second)
    assert page.running() == {second}


def test_every_thread_has_a_slot_of_its_own(page: RunningSlots) -> None:
    ids = [new_id() for _ in range(THREADS)]
    for slot, job_id in enumerate(ids):
        page.write(slot, job_id)
    assert page.running() == set(ids)
    page.wipe(1)
    assert page.running() == {ids[0], ids[2]}


def test_what_a_child_wrote_stays_when_it_is_gone(fd: int, page: RunningSlots) -> None:
    child, job_id = RunningSlots(fd, slots=THREADS), new_id()
    child.write(2, job_id)
    child.close()
    assert page.running() == {job_id}


def test_what_no_thread_writes_is_no_job_of_ours_and_no_error(fd: int, page: RunningSlots) -> None:
    os.pwrite(fd, b"\xff" * WIDTH, 0)
    assert page.running() == {"\N{REPLACEMENT CHARACTER}" * WIDTH}


def test_there_is_no_slot_beyond_the_last(page: RunningSlots) -> None:
    with pytest.raises((IndexError, ValueError)):
        page.write(THREADS, new_id())
