"""The worker's helper process: started once the worker has signed in, before it claims, and stopped after its children."""

import asyncio
import logging
import sys
from typing import Any

from pgqueue.errors import ConfigError
from pgqueue.terminal import escape
from pgqueue.worker.link.greeting import AppFacts, HelperSetup
from pgqueue.worker.settings import EXIT_S, FIRST_START_S, Settings
from pgqueue.worker.supervisor.child_process import ChildProcess

logger = logging.getLogger("pgqueue.worker")


class Helper:
    """Nothing at all where no function is registered for the start or the stop of a worker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: ChildProcess | None = None
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopping = False

    async def start(self, facts: AppFacts) -> None:
        """Call the functions for the start; raises ConfigError if one fails, or takes longer than an import may."""
        first, last = facts.config["on_worker_start"], facts.config["on_worker_stop"]
        if not first and not last:
            return
        setup = HelperSetup(
            on_worker_start=first, on_worker_stop=last,
            log_level=self._settings.log_level, log_format=self._settings.log_format,
        )  # fmt: skip
        self._process = ChildProcess(threads=1, heard=self._heard, hung_up=self._hung_up, program="helper")
        try:
            await self._process.launch(setup)
        except OSError as error:
            self._process = None
            raise ConfigError(f"cannot start the helper process ({error.strerror})") from None
        if not (await asyncio.wait([self._started], timeout=FIRST_START_S))[0]:
            raise ConfigError(
                f"the on_worker_start functions did not finish within {FIRST_START_S:.0f} s: {', '.join(first)}"
            )
        self._started.result()

    async def stop(self) -> None:
        """Call the functions for the stop, where those for the start were; end the process."""
        self._stopping = True
        if self._process is None:
            return
        if self._started.done() and not self._started.exception():
            self._process.send("stop")
        else:
            self._process.kill()
        try:
            async with asyncio.timeout(EXIT_S + 2):
                await self._process.ended()
        except TimeoutError:
            self._process.kill()
            await self._process.ended()
        self._process.close()

    def _heard(self, message: list[Any]) -> None:
        match message:
            case ["hello", _]:
                self._started.set_result(None)
            case ["failed", reason, trace]:
                if trace:
                    sys.stderr.write(escape(trace))
                self._started.set_exception(ConfigError(f"on_worker_start failed: {reason}"))

    def _hung_up(self) -> None:
        if not self._started.done():
            self._started.set_exception(
                ConfigError("the helper process died while it called the on_worker_start functions")
            )
        elif not self._stopping and not self._started.exception():
            logger.error("the helper process died: the on_worker_stop functions of this worker will not be called")
