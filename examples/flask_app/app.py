"""The application: `flask --app examples.flask_app.app run`, and `flask --app examples.flask_app.app pgqueue worker`."""

from typing import Any

from flask import Flask, request

from examples.flask_app.models import Order, db
from examples.flask_app.tasks import confirm
from pgqueue.contrib.flask import PgQueue

queue = PgQueue()


def create_app(**config: Any) -> Flask:
    """FLASK_SQLALCHEMY_DATABASE_URI in the environment names the database, for the shop and its jobs."""
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config)
    db.init_app(app)
    queue.init_app(app)

    @app.cli.command()
    def create_tables() -> None:
        db.create_all()

    @app.post("/orders")
    def order() -> tuple[dict[str, Any], int]:
        ordered = Order(item=request.get_json()["item"])
        db.session.add(ordered)
        db.session.flush()  # gives it its id
        job = confirm.options(conn=db.session).defer(ordered.id)  # in the transaction of the order
        if ordered.item == "unicorn":
            return {"error": "out of unicorns"}, 409  # neither order nor job
        db.session.commit()
        return {"order": ordered.id, "job": job.id}, 202

    @app.get("/orders/<int:order_id>")
    def status(order_id: int) -> dict[str, Any]:
        ordered = db.get_or_404(Order, order_id)
        return {"item": ordered.item, "confirmation": ordered.confirmation}

    return app
