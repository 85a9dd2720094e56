"""Commands that check the queue: health for probes, doctor for people."""

import threading
import time
from typing import Annotated

import typer

from pgqueue import db, schema
from pgqueue.app import App
from pgqueue.cli.options import OPERATE, AppName, Json, chosen_app
from pgqueue.cli.output import fail, say, say_json
from pgqueue.errors import PgQueueError
from pgqueue.ops import doctor
from pgqueue.queries import Steps, ask
from pgqueue.worker.settings import CRASH_CAP, GRACE_S

HEALTH_ANSWER_S = 2.0  # a server that takes longer for three short questions is as good as away


def health(as_json: Json = False) -> None:
    """Check that the database answers, the schema is current and a worker is alive.

    Does not import your code. Exits with 1 if not.
    """
    began = time.perf_counter()
    problem, alive = None, 0
    try:
        alive = _within(HEALTH_ANSWER_S, chosen_app())
        problem = None if alive else "no worker is alive: start one with `pgqueue worker`"
    except (PgQueueError, db.DatabaseError) as error:
        problem = str(error).splitlines()[0]
    took_ms = round((time.perf_counter() - began) * 1e3, 1)
    if as_json:
        say_json({"ok": problem is None, "problem": problem, "workers": alive, "took_ms": took_ms})
    if problem is not None:
        raise typer.Exit(1) if as_json else SystemExit(fail(problem))
    if not as_json:
        say(f"ok: {alive} workers alive, answered in {took_ms} ms")


def _within(seconds: float, app: App) -> int:
    """The number of live workers. Gives up after `seconds`: a frozen server keeps the connection open and does not answer."""
    with db.connect(app.dsn) as conn:
        alarm = threading.Timer(seconds, db.sever, [conn])
        alarm.start()
        try:
            return db.run(conn, _look(app))
        finally:
            alarm.cancel()


def _look(app: App) -> Steps[int]:
    yield from schema.check(app.queries, schema=app.config.schema)
    (alive,) = yield from ask(app.queries.alive())
    return alive


def examine(
    fix: Annotated[bool, typer.Option("--fix", help="Fix what can be fixed safely, then check again.")] = False,
    app: AppName = None,
    as_json: Json = False,
) -> None:
    """Diagnose the queue and suggest cures. Exits with 1 if a guarantee is at risk."""
    chosen = chosen_app(app)
    done = _mend(chosen) if fix else []
    with db.connect(chosen.dsn, silence_s=db.PATIENCE_S) as conn:
        found = db.run(conn, doctor.examine(chosen.queries, chosen.config, wire=db.wire(conn)))
        found = [*_tried(conn, chosen), *found]
    if as_json:
        say_json({"done": done, "findings": [finding._asdict() for finding in found]})
    else:
        _print(done, found)
    if any(finding.problem for finding in found):
        raise typer.Exit(1)


def _tried(conn: db.Connection, app: App) -> list[doctor.Finding]:
    """Try the chores of a worker and roll them back. A lock held by another session, or a time limit, is not a finding."""
    try:
        with conn.transaction(force_rollback=True):
            db.run(conn, doctor.chores(app.queries, app.config))
    except db.DatabaseError as error:
        if not db.is_refusal(error) or db.gave_way(error):
            return []
        return [doctor.chores_fail((str(error).splitlines() or [type(error).__name__])[0])]
    return []


def _mend(app: App) -> list[str]:
    with db.connect(app.dsn) as conn:
        with conn.transaction():
            done = db.run(conn, doctor.mend(app.queries, app.config, crash_cap=CRASH_CAP, grace_s=GRACE_S))
        return [*done, db.run(conn, doctor.vacuum(app.queries))]


def _print(done: list[str], found: list[doctor.Finding]) -> None:
    for what in done:
        say(f"done     {what}")
    for finding in found:
        say(f"{'PROBLEM' if finding.problem else 'note':<8} {finding.what}\n         {finding.cure}")
    if not found:
        say("no problems found")


def add_to(cli: typer.Typer) -> None:
    """Register the commands."""
    cli.command(rich_help_panel=OPERATE)(health)
    cli.command(name="doctor", rich_help_panel=OPERATE)(examine)
