"""The .sql files say some things in several places, as a view or a function would spoil their plans: all say them alike."""

import re
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

import pgqueue
from pgqueue.db.doors.text import ROOM_FOR_A_BELL

SQL = Path(pgqueue.__file__).parent / "sql"

MOVED = (
    "id", "claim_token", "run_at", "created_at", "started_at", "expires_at", "worker", "state", "attempt", "crashes",
    "max_attempts", "timeout_s", "priority", "queue", "task", "args", "kwargs", "headers", "unique_key",
    "gates",
)  # fmt: skip
SET_BY_THE_END = {"claim_token", "worker", "state", "attempt", "crashes"}
VALUES = ", ".join("[^,]+" if column in SET_BY_THE_END else column for column in MOVED)


class Clause(NamedTuple):
    """A pattern of what is copied, and one of anything that looks like it; names of tables and parameters differ."""

    copy: str
    like: str


CLAUSES = {
    "a job moves to history": Clause(
        rf"insert into \{{schema\}}\.history \( {', '.join(MOVED)}, (?:error|result) \) select {VALUES}, [^,]+ from",
        r"(?i)insert into \S*history",
    ),
    "a sleeping worker serves a queue": Clause(
        r"select from \{schema\}\.worker where sleeping and state = 'alive' (?:and id <> %\(worker\)s )?"
        r"and \(worker\.queues is null or \S+ = any \(worker\.queues\)\)",
        r"\bsleeping\b(?! = %| = false|\)s)",
    ),
    "there is room for a bell": Clause(re.escape(ROOM_FOR_A_BELL), r"pg_notification_queue_usage\(\)(?! as )"),
    "a failed attempt gives up its places": Clause(
        r"when not exists \(select from \{schema\}\.gate where name = split_part\(job\.gates\[1\], '=', 1\) and keeps\) then 0 "
        r"when cardinality\(job\.gates\) = 1 then job\.gate else 2 end",
        r"and keeps\b",
    ),
    "a job is due soon": Clause(
        r"\brun_at < statement_timestamp\(\) \+ interval '10 seconds'",
        r"\brun_at\b.{0,60}(?<!\* )interval '\d+ |(?<!\* )interval '\d+ .{0,60}\brun_at\b",
    ),
}


def statements() -> dict[str, str]:
    """All that run, each in one line without comments. Of the migrations the last to make `enqueue`: that one is in force."""
    files = {str(path.relative_to(SQL)): path.read_text("utf-8") for path in sorted(SQL.rglob("*.sql"))}
    plain = {name: " ".join(re.sub(r"--[^\n]*", "", text).split()) for name, text in files.items()}
    old = [name for name in plain if name.startswith("migrations/")]
    *_, latest = (name for name in old if "function {schema}.enqueue(" in plain[name])
    unused = {"roles/grant.sql", *old} - {latest}
    return {name: text for name, text in plain.items() if name not in unused}


def copies(clause: Clause, texts: dict[str, str]) -> dict[str, int]:
    counts = {name: len(re.findall(clause.copy, text)) for name, text in texts.items()}
    return {name: count for name, count in counts.items() if count}


def others(clause: Clause, texts: dict[str, str]) -> set[str]:
    """The files that say it otherwise."""
    return {name for name, text in texts.items() if re.search(clause.like, re.sub(clause.copy, "", text))}


@pytest.mark.parametrize("what", CLAUSES)
def test_all_copies_are_alike(what: str) -> None:
    assert others(CLAUSES[what], statements()) == set()


def test_all_copies_are_found() -> None:
    found = {what: copies(clause, statements()) for what, clause in CLAUSES.items()}
    enqueue = "migrations/0015_keys.sql"
    assert found["a job moves to history"].keys() == {
        "worker/finish.sql", "worker/settle.sql", "worker/set_aside.sql", "worker/expire.sql", "lease/rescue.sql", "ops/cancel.sql",
        "events/put_aside.sql", "events/batch_skip.sql",
    }  # fmt: skip
    assert found["a sleeping worker serves a queue"].keys() == {
        "client/insert.sql", "client/ring.sql", "worker/promote.sql", "worker/settle.sql", "worker/admit.sql",
    }  # fmt: skip
    assert found["a failed attempt gives up its places"].keys() == {"worker/settle.sql", "worker/hand_back.sql"}
    assert found["a job is due soon"].keys() == {"client/insert.sql", "client/clock.sql", enqueue}
    room = found["there is room for a bell"]
    assert len(room) == 25 and room[enqueue] == 1 and room["worker/settle.sql"] == room["lease/rescue.sql"] == 2


def test_every_column_of_history_is_moved(app: pgqueue.App, conn: psycopg.Connection) -> None:
    """But for the time, which is that of the move, and a result where there is an error, or the other way round."""
    columns = conn.execute(
        "select column_name from information_schema.columns where table_schema = 'pgqueue' and table_name = 'history'"
    ).fetchall()
    assert {*MOVED, "finished_at", "result", "error"} == {column for (column,) in columns}


CHANGES = [
    ("a job moves to history", "worker/finish.sql", "crashes, max_attempts, timeout_s", "crashes, timeout_s"),
    ("a job moves to history", "ops/cancel.sql", "task, args, kwargs, headers", "kwargs, args, task, headers"),
    ("a job moves to history", "lease/rescue.sql", "into {schema}.history (", "into {schema}.history_ended ("),
    ("a sleeping worker serves a queue", "client/ring.sql", "and state = 'alive'", "and state <> 'dead'"),
    ("a sleeping worker serves a queue", "worker/promote.sql", "worker.queues is null or", "worker.queues = '{}' or"),
    ("a sleeping worker serves a queue", "client/insert.sql", "where sleeping and", "where lease_until > now() and sleeping and"),
    ("there is room for a bell", "worker/settle.sql", "usage() < 0.5", "usage() < 0.6"),
    ("there is room for a bell", "ops/resume.sql", ROOM_FOR_A_BELL, "0.5 > pg_notification_queue_usage()"),
    ("a failed attempt gives up its places", "worker/hand_back.sql", "= 1 then job.gate", "= 1 then 1"),
    ("a job is due soon", "client/clock.sql", "interval '10 seconds'", "interval '11 seconds'"),
    ("a job is due soon", "client/insert.sql", "run_at < statement_timestamp() +", "run_at <= now() +"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "file", "said", "other"), CHANGES)
def test_a_copy_that_changes_is_found(what: str, file: str, said: str, other: str) -> None:
    texts = statements()
    assert said in texts[file]
    assert others(CLAUSES[what], {**texts, file: texts[file].replace(said, other, 1)}) == {file}


NEW = [
    ("a job moves to history", "insert into {schema}.history select * from gone"),
    ("a job moves to history", "insert into {schema}.history (id, state) select id, state from gone"),
    ("a sleeping worker serves a queue", "select from {schema}.worker as w where w.state = 'alive' and w.sleeping"),
    ("there is room for a bell", "select 1 where pg_notification_queue_usage() <= 0.5"),
    ("a job is due soon", "select from {schema}.job where run_at between now() and now() + interval '10 seconds'"),
    ("a job is due soon", "select from {schema}.job where now() + interval '10 seconds' > job.run_at"),
    ("a job is due soon", "select from {schema}.job where run_at - now() < interval '5 seconds'"),
]


@pytest.mark.parametrize(("what", "text"), NEW)
def test_a_new_file_that_says_it_otherwise_is_found(what: str, text: str) -> None:
    assert others(CLAUSES[what], {**statements(), "new.sql": text}) == {"new.sql"}
