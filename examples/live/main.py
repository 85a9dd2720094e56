"""The web application: `uvicorn examples.live.main:web`. Change the table with psql, and look at the page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from fastapi import FastAPI
from fastapi.responses import FileResponse, StreamingResponse
from psycopg.rows import dict_row

from pgqueue import App
from pgqueue.contrib.fastapi import event_stream

app = App()
app.trigger("live_stock", on=["insert", "update", "delete"], event="stock.changed", payload="row")


@asynccontextmanager
async def lifespan(web: FastAPI) -> AsyncIterator[None]:
    """It makes its table and its trigger, for which yours has migrations and `pgqueue trigger sync`."""
    async with app.lifespan():
        with psycopg.connect(app.dsn) as conn:
            conn.execute("create table if not exists live_stock (item text primary key, amount int not null)")
        app.triggers.sync()
        yield


web = FastAPI(lifespan=lifespan)


@web.get("/")
async def page() -> FileResponse:
    """The page itself."""
    return FileResponse(Path(__file__).with_name("page.html"))


@web.get("/stock")
def stock() -> list[dict[str, object]]:
    """What the page reads when it begins to listen, and at a gap."""
    with psycopg.connect(app.dsn, row_factory=dict_row) as conn:
        return conn.execute("select item, amount from live_stock order by item").fetchall()


@web.get("/changes")
async def changes() -> StreamingResponse:
    """Here it is decided what this client may see: everything."""
    return event_stream(app, types=["stock.changed"], retry_s=0.3)
