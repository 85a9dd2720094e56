"""How each fault is done to its target, and undone."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import psycopg

from benchmarks.chaos.bus import Bus
from benchmarks.chaos.groups import Group
from benchmarks.chaos.ledger import Ledger
from benchmarks.chaos.plan import Fault
from benchmarks.chaos.proxy import Proxy
from benchmarks.chaos.servers import Servers

DELAY_S = 0.1
STUCK_S = 0.3  # in this time a relay has something to send, and waits for the bus
END_AGAIN_S = 0.02
SESSIONS = "from pg_stat_activity where application_name like 'pgqueue%' and pid <> pg_backend_pid()"
# Those who make jobs of events: in the midst of it by their lock, else by the last thing that they said.
DISPATCHES = (
    "(query like '%event_reader%' or pid in "
    """(select pid from pg_locks where locktype = 'advisory' and objid = hashtext('"pgqueue".dispatch')::oid))"""
)
LISTENERS = "from pg_stat_activity where application_name = 'pgqueue channels'"


class Injector:
    """Carries out a plan: each fault in a thread of its own, written down when it begins and when it is over."""

    def __init__(
        self, servers: Servers, groups: Sequence[Group], app_proxy: Proxy, ledger: Ledger, *, seed: int, bus: Bus, reader: Group,
    ) -> None:  # fmt: skip
        self._servers = servers
        self._bus = bus
        self._reader = reader
        self._groups = {group.name: group for group in groups}
        self._app_proxy = app_proxy
        self._ledger = ledger
        self._chance = random.Random(seed)
        self._threads: list[threading.Thread] = []
        # One at a time per target: a deploy may take longer than planned, and a worker killed and started meanwhile would be
        # started a second time by its end.
        self._turns = {
            target: threading.Lock() for target in (*self._groups, "server", "app", "relays", "bus", "reader")
        }

    def run(self, plan: Sequence[Fault], *, say: Callable[[str], None]) -> None:
        """Until the last fault has begun."""
        began = time.monotonic()
        for fault in plan:
            time.sleep(max(0.0, began + fault.at_s - time.monotonic()))
            say(str(fault))
            thread = threading.Thread(target=self._do, args=(fault,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def heal(self) -> None:
        """Wait until every fault is over, and see that all workers run."""
        for thread in self._threads:
            thread.join()
        for group in (*self._groups.values(), self._reader):
            if not group.alive:
                group.start()

    def _do(self, fault: Fault) -> None:
        with self._turns[fault.target]:
            self._strike(fault)

    def _strike(self, fault: Fault) -> None:
        fields = {"fault": fault.kind, "target": fault.target}
        self._ledger.write("fault", begins=True, **fields)
        try:
            with self._faults_of(fault.target)[fault.kind]():
                time.sleep(fault.length_s)
        except (psycopg.Error, RuntimeError) as error:  # the target was just down by another fault: the run goes on
            self._ledger.write("fault_failed", error=str(error), **fields)
        finally:
            self._ledger.write("fault", begins=False, **fields)

    def _faults_of(self, target: str) -> Mapping[str, Callable[[], Any]]:
        match target:
            case "server":
                return self._server_faults()
            case "app":
                return _network(self._app_proxy)
            case "relays":
                return {"kill_relays": self._killed_relays, "oversleep": self._overslept}
            case "bus":
                return {"kill_bus": self._killed_bus, "freeze_bus": self._frozen_bus}
            case "reader":
                return _network(self._reader.proxy) | {
                    "kill_reader": lambda: _killed(self._reader, everybody=False),
                    "end_listeners": lambda: self._at_once(f"select pg_terminate_backend(pid) {LISTENERS}"),
                }
        group = self._groups[target]
        return _network(group.proxy) | {
            "kill_child": lambda: self._kill_child(group),
            "kill_worker": lambda: _killed(group, everybody=False),
            "kill_group": lambda: _killed(group, everybody=True),
            "freeze_worker": lambda: _frozen(group),
            "nap": lambda: _frozen(group),
            "deploy": lambda: _deployed(group),
        }

    @contextmanager
    def _kill_child(self, group: Group) -> Iterator[None]:
        children = group.children()
        if children:
            group.signal(signal.SIGKILL, [self._chance.choice(children)])
        yield

    def _server_faults(self) -> Mapping[str, Callable[[], object]]:
        return {
            "restart_fast": lambda: self._restarted("fast"),
            "restart_immediate": lambda: self._restarted("immediate"),
            "kill_server": self._killed_server,
            "freeze_server": self._frozen_server,
            "end_sessions": lambda: self._at_once(f"select pg_terminate_backend(pid) {SESSIONS}"),
            "cancel_all": self._cancelled,
            "lock_jobs": self._locked,
            "fail_over": self._failed_over,
            "end_dispatchers": self._ended_dispatchers,
        }

    def _relays(self) -> list[int]:
        return [pid for group in self._groups.values() for pid in group.relays()]

    @contextmanager
    def _killed_relays(self) -> Iterator[None]:
        """The one that holds the lane, and the one that waits for it."""
        _signal(signal.SIGKILL, self._relays())
        yield

    @contextmanager
    def _overslept(self) -> Iterator[None]:
        """The relays of one worker stand still between sending and moving their place; they wake when others have gone on."""
        group = self._chance.choice(list(self._groups.values()))
        self._bus.freeze()
        time.sleep(STUCK_S)
        pids = group.relays()
        _signal(signal.SIGSTOP, pids)
        self._bus.thaw()
        yield
        _signal(signal.SIGCONT, pids)

    @contextmanager
    def _killed_bus(self) -> Iterator[None]:
        self._bus.kill()
        yield
        self._bus.start()

    @contextmanager
    def _frozen_bus(self) -> Iterator[None]:
        self._bus.freeze()
        yield
        self._bus.thaw()

    @contextmanager
    def _restarted(self, mode: str) -> Iterator[None]:
        self._servers.primary.restart(mode)
        yield

    @contextmanager
    def _killed_server(self) -> Iterator[None]:
        self._servers.primary.kill()
        yield
        self._servers.primary.start()

    @contextmanager
    def _frozen_server(self) -> Iterator[None]:
        self._servers.primary.freeze()
        yield
        self._servers.primary.thaw()

    @contextmanager
    def _failed_over(self) -> Iterator[None]:
        self._servers.fail_over(moved=self._lead)
        yield

    def _lead(self, port: int) -> None:
        """The address moves with the primary."""
        for proxy in (self._app_proxy, self._reader.proxy, *(group.proxy for group in self._groups.values())):
            proxy.retarget(port)

    @contextmanager
    def _at_once(self, statement: str) -> Iterator[None]:
        with self._servers.primary.connect("shop") as conn:
            conn.execute(statement)
        yield

    def _cancelled(self) -> AbstractContextManager[None]:
        """Every statement of ours."""
        return self._again(f"select pg_cancel_backend(pid) {SESSIONS} and state = 'active'", pause_s=0.1)

    def _ended_dispatchers(self) -> AbstractContextManager[None]:
        """So often that some are struck in each of their steps."""
        return self._again(f"select pg_terminate_backend(pid) {SESSIONS} and {DISPATCHES}", pause_s=END_AGAIN_S)

    @contextmanager
    def _again(self, statement: str, *, pause_s: float) -> Iterator[None]:
        """Say it again and again, for as long as the fault lasts."""
        over = threading.Event()

        def say() -> None:
            with suppress(psycopg.Error), self._servers.primary.connect("shop") as conn:
                while not over.wait(pause_s):
                    conn.execute(statement)

        thread = threading.Thread(target=say)
        thread.start()
        yield
        over.set()
        thread.join()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._servers.primary.connect("shop") as conn, conn.transaction():
            conn.execute("set local lock_timeout = '5s'")
            conn.execute("lock table pgqueue.job in access exclusive mode")
            yield


def _network(proxy: Proxy) -> dict[str, Callable[[], object]]:
    @contextmanager
    def until_healed(harm: Callable[[], None]) -> Iterator[None]:
        harm()
        yield
        proxy.heal()

    def delay() -> None:
        proxy.delay_s = DELAY_S

    return {
        "cut": lambda: until_healed(proxy.cut),
        "lose_replies": lambda: until_healed(lambda: proxy.lose("replies")),
        "lose_commits": lambda: until_healed(proxy.lose_commits),
        "delay": lambda: until_healed(delay),
        "reset": lambda: until_healed(proxy.reset),
    }


@contextmanager
def _killed(group: Group, *, everybody: bool) -> Iterator[None]:
    if everybody:
        group.signal(signal.SIGKILL, group.pids())
    group.kill()
    yield
    group.start()


def _signal(number: signal.Signals, pids: Sequence[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def _frozen(group: Group) -> Iterator[None]:
    pids = group.pids()
    group.signal(signal.SIGSTOP, pids)
    yield
    group.signal(signal.SIGCONT, pids)


@contextmanager
def _deployed(group: Group) -> Iterator[None]:
    group.stop()
    yield
    group.start()
