"""How each fault is done to its target, and undone."""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import psycopg

from benchmarks.chaos.groups import Group
from benchmarks.chaos.ledger import Ledger
from benchmarks.chaos.plan import Fault
from benchmarks.chaos.proxy import Proxy
from benchmarks.chaos.servers import Servers

DELAY_S = 0.1
SESSIONS = "from pg_stat_activity where application_name like 'pgqueue%' and pid <> pg_backend_pid()"


class Injector:
    """Carries out a plan: each fault in a thread of its own, written down when it begins and when it is over."""

    def __init__(
        self, servers: Servers, groups: Sequence[Group], app_proxy: Proxy, ledger: Ledger, *, seed: int
    ) -> None:
        self._servers = servers
        self._groups = {group.name: group for group in groups}
        self._app_proxy = app_proxy
        self._ledger = ledger
        self._chance = random.Random(seed)
        self._threads: list[threading.Thread] = []
        # One at a time per target: a deploy may take longer than planned, and a worker killed and started meanwhile would be
        # started a second time by its end.
        self._turns = {target: threading.Lock() for target in (*self._groups, "server", "app")}

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
        for group in self._groups.values():
            if not group.alive:
                group.start()

    def _do(self, fault: Fault) -> None:
        with self._turns[fault.target]:
            self._strike(fault)

    def _strike(self, fault: Fault) -> None:
        fields = {"fault": fault.kind, "target": fault.target}
        self._ledger.write("fault", begins=True, **fields)
        try:
            kinds = self._server_faults() if fault.target == "server" else self._other_faults(fault.target)
            with kinds[fault.kind]():
                time.sleep(fault.length_s)
        except (psycopg.Error, RuntimeError) as error:  # the target was just down by another fault: the run goes on
            self._ledger.write("fault_failed", error=str(error), **fields)
        finally:
            self._ledger.write("fault", begins=False, **fields)

    def _other_faults(self, target: str) -> Mapping[str, Callable[[], object]]:
        if target == "app":
            return _network(self._app_proxy)
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
        }

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
        for proxy in (self._app_proxy, *(group.proxy for group in self._groups.values())):
            proxy.retarget(port)

    @contextmanager
    def _at_once(self, statement: str) -> Iterator[None]:
        with self._servers.primary.connect("shop") as conn:
            conn.execute(statement)
        yield

    @contextmanager
    def _cancelled(self) -> Iterator[None]:
        """Every statement of ours, again and again for as long as the fault lasts."""
        over = threading.Event()

        def cancel() -> None:
            with suppress(psycopg.Error), self._servers.primary.connect("shop") as conn:
                while not over.wait(0.1):
                    conn.execute(f"select pg_cancel_backend(pid) {SESSIONS} and state = 'active'")

        thread = threading.Thread(target=cancel)
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
