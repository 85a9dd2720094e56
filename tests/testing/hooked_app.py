"""An app that has something made at a child's start."""

from pgqueue import App

app = App()
heard: list[str] = []


@app.on_child_start
def open_first() -> None:
    heard.append("opened")


@app.on_child_start
async def open_second() -> None:
    heard.append("opened in the loop")


@app.on_child_stop
async def close() -> None:
    heard.append("closed in the loop")


@app.task
def use() -> None:
    heard.append("used")
