"""Live pages: what happens in the database is sent to browsers, as server-sent events or through a WebSocket."""
