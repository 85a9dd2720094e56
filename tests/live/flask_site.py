"""The same streams as Flask serves them."""

from flask import Flask, Response

from pgqueue import App
from pgqueue.contrib.flask import PgQueue, event_stream

app = Flask(__name__)
queue = PgQueue(app, app=App())


@app.get("/orders")
def orders() -> Response:
    return event_stream(types=["order.*"], app=queue.app, beat_s=0.5)


@app.get("/tenants/<int:tenant>")
def tenant(tenant: int) -> Response:
    return event_stream(channels=[f"tenant:{tenant}"], app=queue.app, beat_s=0.5)
