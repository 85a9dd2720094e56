"""A Flask program whose jobs fail, leave connections open and ask for what only an application context has."""

from typing import Any

from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase

from pgqueue import App
from pgqueue.contrib.flask import PgQueue


class Base(DeclarativeBase): ...


db = SQLAlchemy(model_class=Base)
queue = PgQueue(app=App())
torn_down: list[str] = []


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config["SHOP_NAME"] = "Corner"
    db.init_app(app)
    queue.init_app(app)

    @app.teardown_appcontext
    def note(error: BaseException | None) -> None:
        torn_down.append(type(error).__name__)

    return app


@queue.task(name="name")
def name() -> str:
    return str(current_app.config["SHOP_NAME"])


@queue.task(name="name_async")
async def name_async() -> str:
    return str(current_app.config["SHOP_NAME"])


@queue.task(name="look", max_attempts=1)
def look(fail: bool) -> int:
    """Uses the session and never returns it."""
    found = db.session.execute(text("select 1")).scalar_one()
    if fail:
        raise LookupError("not here")
    return int(found)


@queue.task(name="state")
def state() -> dict[str, Any]:
    """What the jobs before this one have left, in this process."""
    pool: Any = db.engine.pool
    return {"checked out": pool.checkedout(), "torn down": torn_down}
