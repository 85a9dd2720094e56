"""Flask: the application's database, its context around jobs, and its commands, with the real Flask and Flask-SQLAlchemy."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask
from psycopg.conninfo import conninfo_to_dict

from examples.flask_app.app import create_app
from examples.flask_app.models import db
from pgqueue import App, ConfigError, JobDead
from pgqueue.contrib.flask import PgQueue
from tests.conftest import Worker
from tests.shell import ROOT

Start = Callable[..., Worker]


def address(dsn: str) -> str:
    """As Flask-SQLAlchemy takes it."""
    parts: dict[str, Any] = conninfo_to_dict(dsn)
    url = sa.URL.create(
        "postgresql+psycopg", username=parts["user"], password=parts.get("password"), database=parts["dbname"],
        query={"host": parts["host"], "port": parts["port"]},
    )  # fmt: skip
    return url.render_as_string(hide_password=False)


@pytest.fixture
def uri(dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """No other variable names a database."""
    monkeypatch.delenv("PGQUEUE_DSN", raising=False)
    return address(dsn)


@pytest.fixture
def flask(uri: str) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """`flask --app ...` as a person types it."""

    def run(module: str, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "flask", "--app", module, *words], capture_output=True, text=True, cwd=ROOT, timeout=60,
            env={**os.environ, "FLASK_SQLALCHEMY_DATABASE_URI": uri},
        )  # fmt: skip

    return run


@pytest.fixture
def serve(uri: str, start_worker: Start) -> Start:
    """`flask --app ... pgqueue worker`."""

    def started(module: str, *options: str, cwd: Path = ROOT) -> Worker:
        return start_worker(
            *options, cwd=cwd, env={"FLASK_SQLALCHEMY_DATABASE_URI": uri, "PGQUEUE_DSN": ""},
            command=[sys.executable, "-m", "flask", "--app", module, "pgqueue", "worker"],
        )  # fmt: skip

    return started


@pytest.fixture
def shop_app(uri: str) -> Iterator[Flask]:
    app = create_app(SQLALCHEMY_DATABASE_URI=uri)
    with app.app_context():
        db.drop_all()
        db.create_all()
    yield app
    with app.app_context():
        db.session.remove()
        db.drop_all()
        db.engine.dispose()
    app.extensions["pgqueue"].app.close()


def test_the_example_confirms_an_order_and_forgets_one_that_was_refused(
    shop_app: Flask, conn: psycopg.Connection, serve: Start
) -> None:
    client = shop_app.test_client()
    assert client.post("/orders", json={"item": "unicorn"}).status_code == 409
    assert conn.execute("select count(*) from pgqueue.job").fetchone() == (0,)
    made = client.post("/orders", json={"item": "tea"})
    assert made.status_code == 202
    worker = serve("examples.flask_app.app", "-c", "1").ready()
    job = shop_app.extensions["pgqueue"].app.job(made.json["job"])  # type: ignore[index]
    order = made.json["order"]  # type: ignore[index]
    assert job.result(30) == f"order {order}: your tea is on its way"
    assert client.get(f"/orders/{order}").json == {"item": "tea", "confirmation": "your tea is on its way"}
    assert worker.stop() == 0


def test_jobs_have_an_application_context_and_return_their_connections(app: App, serve: Start) -> None:
    serve("tests.flask.shop", "-c", "1").ready()
    assert [app.enqueue(name).result(30) for name in ("name", "name_async")] == ["Corner", "Corner"]
    jobs = [app.enqueue("look", [number % 2 == 1]) for number in range(100)]
    ended: Counter[str] = Counter()
    for job in jobs:
        try:
            ended[str(job.result(30))] += 1
        except JobDead as error:
            ended[str(error).rsplit(": ", 1)[-1]] += 1
    assert ended == {"1": 50, "not here": 50}
    found = app.enqueue("state").result(30)
    assert found["checked out"] == 0
    assert Counter(found["torn down"]) == {"NoneType": 52, "LookupError": 50}  # each is told how its job ended


@pytest.mark.long
def test_commands_mean_the_applications_database_and_tasks(
    flask: Callable[..., "subprocess.CompletedProcess[str]"], conn: psycopg.Connection
) -> None:
    done = flask("tests.flask.shop", "pgqueue", "defer", "name")
    assert done.returncode == 0, done.stderr
    assert conn.execute("select id::text from pgqueue.job").fetchall() == [(done.stdout.strip(),)]
    tasks = flask("tests.flask.shop", "pgqueue", "tasks")
    assert [line.split()[0] for line in tasks.stdout.splitlines()[1:]] == ["look", "name", "name_async", "state"]
    wrong = flask("tests.flask.shop", "pgqueue", "show", "nothing")
    assert wrong.returncode == 1 and "flask" not in wrong.stdout and wrong.stderr.startswith("pgqueue: ")
    assert "flask pgqueue" in flask("tests.flask.shop", "pgqueue", "jobs", "--help").stdout
    assert "pgqueue" in flask("tests.flask.shop", "--help").stdout


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"PGQUEUE_SHEMA": "x"}, r"Flask's configuration sets PGQUEUE_SHEMA, .* did you mean PGQUEUE_SCHEMA\?"),
        ({"PGQUEUE_APP": "x"}, r"sets PGQUEUE_APP, which is not a setting"),
    ],
)
def test_a_setting_that_does_not_exist_is_refused_at_once(config: dict[str, str], message: str) -> None:
    app = Flask("shop")
    app.config.update(config)
    with pytest.raises(ConfigError, match=message):
        PgQueue(app, app=App())


def test_the_database_is_the_one_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGQUEUE_DSN", raising=False)
    monkeypatch.setenv("DATABASE_URL", "postgresql://h/environment")
    app = Flask("shop")
    queue = PgQueue(app, app=App())
    assert queue.app.config.dsn == "postgresql://h/environment"
    app.config["SQLALCHEMY_DATABASE_URI"] = sa.URL.create("postgresql+psycopg2", "me", "secret", "h", 5432, "shop")
    assert queue.app.config.dsn == "postgresql://me:secret@h:5432/shop"
    app.config["PGQUEUE_DSN"] = "host=other dbname=jobs"
    app.config["PGQUEUE_SCHEMA"] = "queue"
    assert (queue.app.config.dsn, queue.app.config.schema) == ("host=other dbname=jobs", "queue")
    del app.config["PGQUEUE_DSN"]
    monkeypatch.setenv("PGQUEUE_DSN", "host=environment")
    app.config["PGQUEUE_SCHEMA"] = "other"
    assert queue.app.config.dsn == "host=environment"


def test_another_kind_of_database_is_refused_by_the_name_of_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGQUEUE_DSN", raising=False)
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///shop.db"
    queue = PgQueue(app, app=App())
    with pytest.raises(
        ConfigError, match=r"^SQLALCHEMY_DATABASE_URI in Flask's configuration is the address of something else"
    ):
        _ = queue.app.config


def test_a_worker_without_the_extension_or_tasks_says_what_to_write(tmp_path: Path, serve: Start) -> None:
    (tmp_path / "bare.py").write_text("from flask import Flask\napp = Flask(__name__)\n")
    (tmp_path / "idle.py").write_text(
        "from flask import Flask\nfrom pgqueue.contrib.flask import PgQueue\napp = Flask(__name__)\nPgQueue(app)\n"
    )
    bare = serve("bare", "-c", "1", cwd=tmp_path)
    assert bare.wait() == 2 and "No such command 'pgqueue'" in bare.output
    idle = serve("idle", "-c", "1", cwd=tmp_path)
    assert idle.wait() == 2
    assert "pgqueue: nothing that the Flask application idle imports has a task" in idle.output
