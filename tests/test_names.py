"""A task has one name, whoever runs its module and however: what the worker calls it that imports the module."""

import json
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

from pgqueue import ConfigError
from pgqueue.loader import load_app
from tests.shell import ROOT

SCRIPT = """
from pgqueue import App
app = App()
@app.task
def buy(): pass
if __name__ == "__main__":
    print(buy.name)
"""

TYPED = "import pgqueue\ndef buy(): pass\n\npgqueue.task(buy)\n"

# The parent prints its own name and that of a process which it starts.
POOL = """
import multiprocessing
from pgqueue import App
app = App()
@app.task
def buy(): pass
def ask(_):
    return buy.name
if __name__ == "__main__":
    with multiprocessing.get_context("{method}").Pool(1) as pool:
        print(*sorted({{buy.name, *pool.map(ask, [1])}}))
"""

# What a decorator of another module returns.
WRAPPED = """
from pgqueue import App
from around import around
app = App()
@app.task
@around
def buy(): pass
if __name__ == "__main__":
    print(buy.name)
"""

AROUND = """
import functools
def around(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper
"""

HELPED = """
from pgqueue import task
@task
def buy(): pass
@task(name="sold")
def sell(): pass
if __name__ == "__main__":
    import helper
    print(buy.name, *helper.names())
"""

HELPER = """
def names():
    from orders import buy, sell
    return buy.name, sell.name
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a script, a package and a folder that is none."""
    files = {
        "orders.py": SCRIPT, "helped/orders.py": HELPED, "helped/helper.py": HELPER, "my-shop.py": SCRIPT, "wordless": SCRIPT,
        "pack/__init__.py": "", "pack/orders.py": SCRIPT, "pack/__main__.py": SCRIPT, "pack/deep/__init__.py": "",
        "pack/deep/orders.py": SCRIPT, "plain/orders.py": SCRIPT, "plain/__main__.py": SCRIPT, "around.py": AROUND,
        "wrapped.py": WRAPPED, "spawn.py": POOL.format(method="spawn"), "forkserver.py": POOL.format(method="forkserver"),
        "fork.py": POOL.format(method="fork"), "pack/spawn.py": POOL.format(method="spawn"),
        "named.py": SCRIPT.replace("@app.task", "@app.task(name='given')"),
    }  # fmt: skip
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "my-named.py").write_text(files["named.py"])
    (tmp_path / "elsewhere").mkdir()
    zipapp.create_archive(tmp_path / "plain", tmp_path / "shop.pyz")
    return tmp_path


def run(*command: str, cwd: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, input=text
    )


@pytest.mark.parametrize(
    ("cwd", "command", "name"),
    [
        (".", ["orders.py"], "orders.buy"),
        (".", ["-m", "orders"], "orders.buy"),
        (".", ["pack/orders.py"], "pack.orders.buy"),
        (".", ["-m", "pack.orders"], "pack.orders.buy"),
        (".", ["-m", "pack"], "pack.__main__.buy"),
        (".", ["pack"], "pack.__main__.buy"),
        (".", ["pack/deep/orders.py"], "pack.deep.orders.buy"),
        # From another folder: what its neighbours, and a worker started beside it, import it as.
        (".", ["plain/orders.py"], "orders.buy"),
        ("elsewhere", ["../orders.py"], "orders.buy"),
        ("elsewhere", ["../pack/orders.py"], "pack.orders.buy"),
        ("elsewhere", ["../plain/orders.py"], "orders.buy"),
        # Within a package: a worker started here imports from here.
        ("pack", ["orders.py"], "orders.buy"),
        ("pack", ["deep/orders.py"], "deep.orders.buy"),
        (".", ["-m", "cProfile", "-o", "out", "orders.py"], "orders.buy"),
        (".", ["-m", "cProfile", "-o", "out", "-m", "pack.orders"], "pack.orders.buy"),
        (".", ["-m", "trace", "--count", "-C", "out", "orders.py"], "orders.buy"),
        ("elsewhere", ["-m", "profile", "-o", "out", "../orders.py"], "orders.buy"),
        (".", ["-m", "pdb", "-c", "continue", "-c", "quit", "orders.py"], "orders.buy"),
        (".", ["-m", "pdb", "-c", "continue", "-c", "quit", "-m", "pack.orders"], "pack.orders.buy"),
        (".", ["-c", "import runpy; runpy.run_path('orders.py', run_name='__main__')"], "orders.buy"),
        (".", ["-c", "import runpy; print(runpy.run_path('pack/orders.py')['buy'].name)"], "pack.orders.buy"),
        (".", ["-c", "import runpy; runpy.run_module('pack.orders', run_name='__main__')"], "pack.orders.buy"),
        (".", ["-c", "import orders; print(orders.buy.name)"], "orders.buy"),
        (".", ["wrapped.py"], "wrapped.buy"),
        (".", ["-m", "cProfile", "-o", "out", "wrapped.py"], "wrapped.buy"),
        (".", ["fork.py"], "fork.buy"),
        (".", ["spawn.py"], "spawn.buy"),
        ("elsewhere", ["../spawn.py"], "spawn.buy"),
        (".", ["-m", "spawn"], "spawn.buy"),
        (".", ["pack/spawn.py"], "pack.spawn.buy"),
        (".", ["-m", "pack.spawn"], "pack.spawn.buy"),
        (".", ["forkserver.py"], "forkserver.buy"),
        (".", ["named.py"], "given"),
        (".", ["my-named.py"], "given"),
        # The script and what its helper imports are one module, loaded twice.
        ("helped", ["orders.py"], "orders.buy orders.buy sold"),
        (".", ["helped/orders.py"], "orders.buy orders.buy sold"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_b46_a_script_is_called_as_a_worker_imports_it(shop: Path, cwd: str, command: list[str], name: str) -> None:
    ran = run(*command, cwd=shop / cwd)
    assert name in ran.stdout.splitlines(), ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("command", "text", "message"),
    [
        (["-c", SCRIPT], None, "buy is defined at a prompt, where no worker can import it: write it into a module"),
        (["-"], SCRIPT, "buy is defined at a prompt, where no worker can import it"),
        (["-m", "asyncio"], TYPED, "buy is defined at a prompt"),
        (["-m", "code"], TYPED, "buy is defined at a prompt"),
        (["my-shop.py"], None, "buy is defined in my-shop.py, which no worker can import: call the file my_shop.py, or give name="),
        (["wordless"], None, "buy is defined in wordless, which no worker can import: call the file wordless.py, or give name="),
        (["shop.pyz"], None, "buy is defined in __main__.py, which no worker can import: move it into a module next to it"),
        (["plain"], None, "buy is defined in __main__.py, which no worker can import: move it into a module next to it"),
        (["-c", f"exec({SCRIPT!r}, {{}})"], None, "buy is defined at a prompt"),
    ],
)  # fmt: skip
def test_b46_what_no_worker_can_import_is_refused(
    shop: Path, command: list[str], text: str | None, message: str
) -> None:
    assert f"ConfigError: {message}" in run(*command, cwd=shop, text=text).stderr


def test_a_notebook_is_a_prompt(shop: Path) -> None:
    """As ipykernel runs a cell: a file of its own for each, in a module __main__ that has none."""
    cell = (
        "import sys, types; main = sys.modules['__main__'] = types.ModuleType('__main__');"
        f"exec(compile({SCRIPT!r}, '/tmp/ipykernel_1/2.py', 'exec'), vars(main))"
    )
    assert "ConfigError: buy is defined at a prompt" in run("-c", cell, cwd=shop).stderr


@pytest.mark.parametrize(
    ("path", "cure"),
    [
        ("orders.py", "-A orders?"),
        ("pack/deep/orders.py", "-A pack.deep.orders?"),
        ("plain/orders.py", "-A orders, started in {}/plain?"),
        ("./orders.py", "-A orders?"),
    ],
)
def test_the_worker_is_told_the_name_by_which_a_script_defers(
    shop: Path, monkeypatch: pytest.MonkeyPatch, path: str, cure: str
) -> None:
    monkeypatch.chdir(shop)
    with pytest.raises(ConfigError) as told:
        load_app(path)
    assert str(told.value).endswith(f"did you mean {cure.format(shop)}")


DEFERS = """
import sys
from pgqueue import task
@task
def add(n):
    return n
def produce(n):
    add.defer(n)
if __name__ == "__main__":
    import helper
    import multiprocessing
    produce(1)
    helper.produce(2)
    for method in sys.argv[1:]:
        with multiprocessing.get_context(method).Pool(1) as pool:
            pool.map(produce, [3])
"""


def test_a_worker_runs_what_every_process_of_a_script_defers(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "goods.py").write_text(DEFERS)
    (tmp_path / "helper.py").write_text("def produce(n):\n    from goods import add\n    add.defer(n)\n")
    env = {"PYTHONPATH": str(ROOT), "PGQUEUE_DSN": dsn, "PATH": "/usr/bin:/bin"}

    def ran(*command: str) -> str:
        return subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        ).stdout

    methods = ["spawn", "forkserver"]
    for command in ["goods.py", *methods], ["-m", "goods", *methods], ["-m", "cProfile", "-o", "out", "goods.py"]:
        ran(*command)
    ran("-m", "pgqueue", "worker", "-A", "goods", "-c", "1", "--burst")
    jobs = json.loads(ran("-m", "pgqueue", "jobs", "--json"))["jobs"]
    assert [(job["task"], job["state"]) for job in jobs] == [("goods.add", "succeeded")] * len(jobs) and len(jobs) == 10
