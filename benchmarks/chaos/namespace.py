"""A network of two hosts on this machine whose packets can be lost, so that TCP's own timeouts decide: Linux and root only.

Each host is a network namespace without a name, so nothing is left of it when its processes have gone. Their wire ends in
a third one, where this process carries the frames across: no packet filter and no traffic shaper of the kernel is needed.
"""

import ctypes
import fcntl
import heapq
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar

T = TypeVar("T")

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18

SIOCETHTOOL = 0x8946
# Checksums and segments are made by the sender's kernel itself: nobody behind this wire would make up for them.
OFFLOADS = {"tx checksums": 0x17, "tcp segmentation": 0x1F, "generic segmentation": 0x24}

MAC = {"server": "02:00:00:00:00:01", "worker": "02:00:00:00:00:02"}
ALL_FRAMES = socket.htons(3)
IPV4 = b"\x08\x00"
FRAME = 1 << 16
TICK_S = 0.1

_libc = ctypes.CDLL(None, use_errno=True)


def refused() -> str | None:
    """Why there can be no namespaces here; None: there can."""
    if not hasattr(_libc, "unshare"):
        return "namespaces are Linux' own"
    if shutil.which("ip") is None:
        return "namespaces need `ip` (iproute2)"
    try:
        os.close(apart(_own_network))
    except OSError as error:
        return f"namespaces need root: {error.strerror}"
    return None


def apart(work: Callable[[], T]) -> T:
    """Do work in a thread of its own: namespaces belong to threads, and processes started there inherit them."""
    results: list[T] = []
    errors: list[BaseException] = []

    def do() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=do)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def with_file(path: str, content: str, work: Callable[[], T]) -> T:
    """Do work where the file at `path` is another one, which may be rewritten later: to those started there, for nobody else."""

    def do() -> T:
        _check(_libc.unshare(CLONE_NEWNS))
        _check(_libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
        _check(_libc.mount(content.encode(), path.encode(), None, MS_BIND, None))
        return work()

    return apart(do)


class Network:
    """The hosts `server` and `worker`. A context manager; the harm it does may be done from any thread."""

    SERVER = "10.213.0.1"
    WORKER = "10.213.0.2"

    def __init__(self) -> None:
        self.delay_s = 0.0  # one way
        self.loss = 0.0  # the share of packets lost, each way
        self._lost: frozenset[str] = frozenset()
        self._flows: set[bytes] = set()  # connections, by the port of the worker's side
        self._forgotten: set[bytes] = set()
        self._hosts: dict[str, int] = {}  # namespaces, by file descriptor
        self._ends: dict[str, socket.socket] = {}
        self._over = threading.Event()
        self._carrier = threading.Thread(target=self._carry, name="network", daemon=True)

    def __enter__(self) -> "Network":
        try:
            self._make()
        except BaseException:
            self._close()
            raise
        self._carrier.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._carrier.join()
        self._close()

    def within(self, host: str, work: Callable[[], T]) -> T:
        """Do work on a host: connections opened and processes started there stay there."""

        def do() -> T:
            _check(_libc.setns(self._hosts[host], CLONE_NEWNET))
            return work()

        return apart(do)

    # -- harm, in the proxy's words --

    def cut(self) -> None:
        """Lose every packet."""
        self._lost = frozenset({"requests", "replies"})

    def lose(self, direction: str) -> None:
        """Lose the packets of one direction: requests (to the server) or replies."""
        self._lost = frozenset({direction})

    def forget(self) -> None:
        """Lose the packets of the connections of now, as a router does that forgot them; new ones are carried."""
        self._forgotten = self._flows.copy()

    def heal(self) -> None:
        """Carry everything again."""
        self._lost, self.delay_s, self.loss, self._forgotten = frozenset(), 0.0, 0.0, set()

    # -- the wire --

    def _make(self) -> None:
        for host in ("wire", "server", "worker"):
            self._hosts[host] = apart(_own_network)
        for host in ("server", "worker"):
            path = f"/proc/{os.getpid()}/fd/{self._hosts[host]}"
            self._ip(
                "wire",
                f"link add {host} type veth peer name eth0 address {MAC[host]} netns {path}",
                f"link set {host} up",
            )
            self._ends[host] = self.within("wire", lambda host=host: _end(host))  # type: ignore[misc]
        for host, address, other in (("server", self.SERVER, self.WORKER), ("worker", self.WORKER, self.SERVER)):
            self.within(host, _no_offloads)
            mac = MAC["worker" if host == "server" else "server"]
            # Known for ever, as a router is: a host that vanished behind it is not told from one that is silent.
            neighbour = f"neigh replace {other} lladdr {mac} dev eth0 nud permanent"
            self._ip(host, "link set lo up", f"addr add {address}/24 dev eth0", "link set eth0 up", neighbour)

    def _ip(self, host: str, *commands: str) -> None:
        def do() -> None:
            for command in commands:
                subprocess.run(["ip", *command.split()], check=True, capture_output=True)

        self.within(host, do)

    def _close(self) -> None:
        for end in self._ends.values():
            end.close()
        for host in self._hosts.values():
            os.close(host)

    def _carry(self) -> None:
        """Every frame from one end to the other, unless it is lost; late ones when their time has come."""
        ways = {
            self._ends["worker"]: (self._ends["server"], "requests"),
            self._ends["server"]: (self._ends["worker"], "replies"),
        }
        late: list[tuple[float, int, socket.socket, bytes]] = []
        number = count()
        while not self._over.is_set():
            timeout_s = max(0.0, min(TICK_S, late[0][0] - time.monotonic())) if late else TICK_S
            for end in select.select(list(ways), [], [], timeout_s)[0]:
                frame, sender = end.recvfrom(FRAME)
                other, direction = ways[end]
                if sender[2] == socket.PACKET_OUTGOING or not self._passes(frame, direction):
                    continue
                heapq.heappush(late, (time.monotonic() + self.delay_s, next(number), other, frame))
            while late and late[0][0] <= time.monotonic():
                _, _, end, frame = heapq.heappop(late)
                end.send(frame)

    def _passes(self, frame: bytes, direction: str) -> bool:
        if direction in self._lost or random.random() < self.loss:
            return False
        if frame[12:14] != IPV4 or frame[23] != socket.IPPROTO_TCP:
            return True
        at = 14 + (frame[14] & 15) * 4  # where the IP header, of so many words, ends: source port, destination port
        flow = frame[at : at + 2] if direction == "requests" else frame[at + 2 : at + 4]
        self._flows.add(flow)
        return flow not in self._forgotten


def _own_network() -> int:
    _check(_libc.unshare(CLONE_NEWNET))
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _end(interface: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, ALL_FRAMES)
    end.bind((interface, 0))
    return end


def _no_offloads() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command in OFFLOADS.values():
            off = ctypes.create_string_buffer(struct.pack("II", command, 0))
            fcntl.ioctl(any_socket, SIOCETHTOOL, struct.pack("16sP", b"eth0", ctypes.addressof(off)))


def _check(result: Any) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
