"""The app of tests whose workers fire schedules; `PGQUEUE_TEST_VERSION` says which code of it runs."""

import os

from pgqueue import App, current_job

app = App()
VERSION = os.environ.get("PGQUEUE_TEST_VERSION", "1")


@app.task(every=86_400 if VERSION == "quiet" else 0.25, queue="ticks", overlap="allow")
def tick() -> str:
    due_at = current_job().due_at
    assert due_at is not None and current_job().headers == {}
    return due_at.isoformat()


@app.task
def report(what: str, password: str = "") -> str:
    return what


app.schedule("nightly", report, cron="0 3 * * *" if VERSION == "1" else "0 4 * * *", tz="Europe/Berlin", args=[VERSION])
app.schedule("secret", report, every=3600, kwargs={"what": "x", "password": "canary"}, priority=4, unique="one")
if VERSION == "1":
    app.schedule("old", report, every=86_400, args=["old"])
