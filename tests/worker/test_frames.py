"""Messages survive the socket, wherever it cuts them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgqueue.worker.link import frames
from pgqueue.worker.link.frames import Unpacker, pack
from pgqueue.worker.link.greeting import AppFacts, ChildSetup, TaskFacts
from tests.worker.parts import claimed

TALK: list[list[Any]] = [
    ["hello", {"tasks": {"t": False}}],
    [],
    ["done", [["j1", 7, "succeeded", None]], 12.5],
    ["stop"],
]
STREAM = b"".join(map(pack, TALK))

leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text()
messages = st.lists(
    st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8), max_size=4
)


def test_four_bytes_of_length_then_json_without_blanks() -> None:
    assert pack(["cancel", "é"]) == b"\x00\x00\x00\x0f" + '["cancel","é"]'.encode()


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_a_stream_may_be_cut_at_every_byte(cut: int) -> None:
    unpacker = Unpacker()
    assert [*unpacker.feed(STREAM[:cut]), *unpacker.feed(STREAM[cut:])] == TALK


def test_a_message_comes_out_with_its_last_byte_and_not_before() -> None:
    unpacker, after = Unpacker(), []
    for at in range(len(STREAM)):
        after += [at + 1] * len(list(unpacker.feed(STREAM[at : at + 1])))
    ends = [sum(map(len, map(pack, TALK[:count]))) for count in range(1, len(TALK) + 1)]
    assert after == ends


@given(st.lists(messages, max_size=5), st.lists(st.integers(1, 40), min_size=1))
def test_any_messages_come_out_of_any_pieces(talk: list[list[Any]], sizes: list[int]) -> None:
    stream, unpacker, turn = b"".join(map(pack, talk)), Unpacker(), 0
    heard: list[list[Any]] = []
    while stream:
        size = sizes[turn % len(sizes)]
        heard += unpacker.feed(stream[:size])
        stream, turn = stream[size:], turn + 1
    assert heard == talk


@pytest.mark.parametrize("text", ["\0", "\n", "\ud800", "€ 𝄞", "]" * 300], ids=ascii)
def test_every_text_travels(text: str) -> None:
    assert list(Unpacker().feed(pack(["failed", text]))) == [["failed", text]]


def test_a_claimed_job_travels_as_the_list_of_its_columns() -> None:
    job = claimed("j1", args="[1]")
    assert list(Unpacker().feed(pack(["run", [job]]))) == [["run", [list(job)]]]


def test_a_length_that_cannot_be_is_a_broken_stream() -> None:
    largest = frames.MAX_FRAME_BYTES
    assert list(Unpacker().feed(largest.to_bytes(4, "big"))) == []  # as long as can be: the rest may come
    with pytest.raises(ValueError, match=f"a frame of {largest + 1} bytes"):
        list(Unpacker().feed((largest + 1).to_bytes(4, "big")))


def test_what_is_no_json_is_a_broken_stream() -> None:
    with pytest.raises(json.JSONDecodeError):
        list(Unpacker().feed(b"\x00\x00\x00\x02[1"))


def test_the_first_messages_come_back_as_they_were() -> None:
    setup = ChildSetup(
        app="shop:app", threads=2, weigh=False, log_level=None, log_format="%(message)s", worker="w", application_name="pgqueue:w"
    )  # fmt: skip
    tasks = {"t": TaskFacts(True, 1.5, "mail"), "ü": TaskFacts(False, None, "default")}
    facts = AppFacts(code="c", dsn=None, config={"schema": "pgqueue", "pool_size": 4}, tasks=tasks)
    unpacker = Unpacker()
    (_, told), (_, said) = unpacker.feed(pack(["setup", setup.as_json()]) + pack(["hello", facts.as_json()]))
    assert ChildSetup(**told) == setup and AppFacts.from_json(said) == facts
