"""A headless Chromium, driven by its DevTools protocol."""

import asyncio
import itertools
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

COMMAND = shutil.which("chromium-headless-shell") or shutil.which("chromium")
WORDS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
    "--no-proxy-server",
)
WITHIN_S = 120.0


class Page:
    """One page in a session of its own: no cookies or connections are shared with another."""

    def __init__(self, browser: "Browser", session: str) -> None:
        self._browser, self._session = browser, session

    async def value(self, script: str) -> Any:
        """What an expression is in the page; None where it fails, as in a page that is not there yet."""
        said = await self._browser.call("Runtime.evaluate", self._session, expression=script, returnByValue=True)
        return said["result"].get("value")

    async def until(self, script: str, wanted: Any) -> None:
        """Wait for an expression to be this."""
        deadline = time.monotonic() + WITHIN_S
        while (seen := await self.value(script)) != wanted:
            assert time.monotonic() < deadline, f"{script} stays {seen}"
            await asyncio.sleep(0.05)


class Browser:
    """Calls, one at a time."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def call(self, method: str, session: str | None = None, **params: Any) -> Any:
        number = next(self._numbers)
        told = {"id": number, "method": method, "params": params}
        await self._socket.send(json.dumps(told | ({"sessionId": session} if session else {})))
        while (said := json.loads(await self._socket.recv())).get("id") != number:
            pass
        assert "error" not in said, said
        return said["result"]

    async def open(self, address: str) -> Page:
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        target = (await self.call("Target.createTarget", url=address, browserContextId=context))["targetId"]
        return Page(self, (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"])


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    assert COMMAND is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        said = Path(folder, "said")
        with said.open("w") as log:
            process = subprocess.Popen([COMMAND, *WORDS, f"--user-data-dir={folder}/user"], stdout=log, stderr=log)  # noqa: ASYNC220
        try:
            deadline = time.monotonic() + WITHIN_S
            while not (found := re.search(r"DevTools listening on (\S+)", said.read_text(errors="replace"))):
                assert process.poll() is None and time.monotonic() < deadline, said.read_text(errors="replace")
                await asyncio.sleep(0.05)
            async with connect(found[1], max_size=None) as socket:
                yield Browser(socket)
        finally:
            process.kill()
            process.wait()
