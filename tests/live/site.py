"""The same streams as FastAPI serves them; a real server runs this module."""

from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse

from pgqueue import App
from pgqueue.contrib.fastapi import event_stream, websocket_events


def site(app: App) -> FastAPI:
    web = FastAPI(lifespan=app.lifespan())

    @web.get("/orders")
    async def orders() -> StreamingResponse:
        return event_stream(app, types=["order.*"], beat_s=0.5)

    @web.get("/tenants/{tenant}")
    def channel(tenant: int) -> StreamingResponse:
        return event_stream(app, channels=[f"tenant:{tenant}"], beat_s=0.5)

    @web.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket_events(websocket, app, types=["order.*"], beat_s=0.5)

    return web


web = site(App(pool_timeout_s=2))
