"""A relay for the workers of tests."""

from pgqueue import App

app = App()
app.relay(to="env:TEST_BUS", types="order.*", name="mirror", batch=20, max_attempts=2)


@app.task
def nothing() -> None: ...
