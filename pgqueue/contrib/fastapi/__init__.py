"""FastAPI and Starlette: live pages, by server-sent events (`event_stream`) or through a WebSocket (`websocket_events`)."""

from pgqueue.contrib.fastapi.live import event_stream, websocket_events

__all__ = ["event_stream", "websocket_events"]
