"""Settings: which source wins, what is refused, and that no message ever shows a password."""

import asyncio
import traceback
from pathlib import Path

import pytest

from pgqueue import App, Config, ConfigError, DatabaseUnavailable, InvalidOption
from pgqueue.db import describe

SECRET = "s3cr3t"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project as the current folder, and a bare environment."""
    for name in ("PGQUEUE_DSN", "DATABASE_URL", "PGQUEUE_APP", "PGQUEUE_SCHEMA", "PGQUEUE_NOTIFY", "PGQUEUE_ENV"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(project: Path, table: str) -> None:
    (project / "pyproject.toml").write_text(table)


def test_the_defaults() -> None:
    config = Config.load()
    assert (config.dsn, config.app, config.schema, config.notify) == (None, None, "pgqueue", "idle")
    assert (config.jobs_channel, config.results_channel) == ("pgqueue_jobs", "pgqueue_results")


def test_argument_over_environment_over_project_over_default(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        project, '[tool.pgqueue]\ndsn = "dbname=file"\nschema = "file"\nnotify = "never"\npool_size = 3\napp = "file"\n'
    )
    config = Config.load()
    assert (config.dsn, config.schema, config.notify, config.pool_size, config.app) == (
        "dbname=file", "file", "never", 3, "file",
    )  # fmt: skip
    for name, value in (("DSN", "dbname=env"), ("SCHEMA", "env"), ("NOTIFY", "always"), ("APP", "env:app")):
        monkeypatch.setenv(f"PGQUEUE_{name}", value)
    config = Config.load()
    assert (config.dsn, config.schema, config.notify, config.pool_size, config.app) == (
        "dbname=env", "env", "always", 3, "env:app",
    )  # fmt: skip
    config = App("dbname=argument", schema="argument", notify="idle", pool_size=1).config
    assert (config.dsn, config.schema, config.notify, config.pool_size) == ("dbname=argument", "argument", "idle", 1)


def test_pgqueue_dsn_over_database_url_and_empty_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://url")
    assert App().config.dsn == "postgresql://url"
    monkeypatch.setenv("PGQUEUE_DSN", "")
    assert App().config.dsn == "postgresql://url"
    monkeypatch.setenv("PGQUEUE_DSN", "dbname=dsn")
    assert App().config.dsn == "dbname=dsn"


def test_nothing_is_read_before_it_is_needed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = App()
    write(project, '[tool.pgqueue]\nschema = "late"\n')
    assert app.config.schema == "late"
    write(project, '[tool.pgqueue]\nschema = "later"\n')
    assert app.config.schema == "late"


def test_the_project_file_is_found_from_a_folder_inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, '[tool.pgqueue]\nschema = "above"\n')
    (project / "src" / "shop").mkdir(parents=True)
    monkeypatch.chdir(project / "src" / "shop")
    assert Config.load().schema == "above"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('[tool.pgqueue]\nshema = "x"', r"sets 'shema', which is no setting of pgqueue; did you mean 'schema'\?"),
        ("[tool.pgqueue]\npool-size = 1", r"did you mean 'pool_size'\?"),
        ("[tool.pgqueue]\nzzz = 1", "there are app, dsn, keep_dead_days"),
        ("[tool.pgqueue]\npool_size = 0", "pool_size must be a whole number from 1, not 0"),
        ("[tool.pgqueue]\npool_size = true", "pool_size must be a whole number"),
        ('[tool.pgqueue]\nnotify = "maybe"', "notify must be one of idle, always, never, not 'maybe'"),
        ("[tool.pgqueue]\npool_timeout_s = nan", "pool_timeout_s must be a number of seconds"),
        ("[tool.pgqueue]\ndsn = 5", "dsn must be a connection string"),
        ("[tool.pgqueue]\ndsn = ''", "dsn must be a connection string"),
        ("[tool.pgqueue]\nschema = 'A'", "schema 'A' cannot be used"),
        ("[tool]\npgqueue = 5", r"tool\.pgqueue must be a table, as in \[tool\.pgqueue\]"),
        ("tool = 5", r"tool\.pgqueue must be a table, as in \[tool\.pgqueue\]"),
        ("[tool.pgqueue", r"pyproject\.toml cannot be read"),
    ],
)
def test_a_wrong_project_file(project: Path, table: str, message: str) -> None:
    write(project, table)
    with pytest.raises(ConfigError, match=message) as caught:
        _ = App().config
    assert "\n" not in str(caught.value)


def test_an_unreadable_project_file(project: Path) -> None:
    (project / "pyproject.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"pyproject\.toml cannot be read"):
        _ = App().config
    (project / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert App().config == Config()


def test_a_wrong_setting_of_the_app_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"App\(\) sets 'poolsize', .*did you mean 'pool_size'"):
        _ = App(poolsize=3).config
    for wrong in ("", " ", 5, b"dbname=x"):
        with pytest.raises(InvalidOption, match="dsn must be a connection string"):  # never the embedded server
            _ = App(wrong).config  # type: ignore[arg-type]
    monkeypatch.setenv("PGQUEUE_NOTIFY", "loud")
    with pytest.raises(InvalidOption, match="notify must be one of"):
        _ = App().config


def test_in_production_nothing_is_started_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGQUEUE_ENV", "production")
    with pytest.raises(ConfigError, match="no database is named and PGQUEUE_ENV is production: set PGQUEUE_DSN"):
        App().enqueue("t")


WRONG_DSNS = [
    f"postgresql://u:{SECRET}@127.0.0.1:1/db",
    f"postgresql://u:{SECRET}@no-such-host.invalid/db",
    f"host=127.0.0.1 port=1 user=u password={SECRET} dbname=db",
    f"host=/no/such/folder password='{SECRET}'",
    f"postgresql://u:{SECRET}@[::1/db",
    f"postgresql://u:%zz{SECRET}@h/db",
    f"postgresql://u:a{SECRET}%@h/db",
    f"postgresql://u:x@{SECRET}@127.0.0.1:1/db",
    f"postgresql://u:{SECRET}/x@127.0.0.1:1/db",
    f"postgresql://u:12/{SECRET}@127.0.0.1:1/db",
    f"postgresql://u:1/{SECRET}@127.0.0.1",
    f"postgresql://u:{SECRET}@127.0.0.1:port/db",
    f"host=127.0.0.1 port=1 password={SECRET} {SECRET}",
    f"host=127.0.0.1 port=1 password={SECRET} nonsense={SECRET}",
    f"host=127.0.0.1 port=1 sslmode=sometimes password={SECRET}",
    f"service=nobody password={SECRET}",
    f"{SECRET}",
    f"mysql://u:{SECRET}@h/db",
    f"host=127.0.0.1 port=1 password={SECRET} dbname='unclosed",
]


@pytest.mark.parametrize("dsn", WRONG_DSNS)
def test_b52_s17_a_wrong_dsn_is_one_line_without_the_password(
    dsn: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    app = App(dsn)
    for ask in (lambda: app.enqueue("t"), lambda: app.jobs(), app.migrate, lambda: app.job("0" * 8).result(1)):
        try:
            ask()
        except (ConfigError, DatabaseUnavailable) as error:
            assert "\n" not in str(error) and SECRET not in "".join(traceback.format_exception(error))
        except Exception as error:
            assert type(error).__name__ == "JobNotFound", error
    shown = capfd.readouterr()
    assert SECRET not in caplog.text + shown.out + shown.err + repr(app) + describe(dsn)


def test_a_wrong_password(dsn: str) -> None:
    with pytest.raises((DatabaseUnavailable, ConfigError)) as caught:
        App(f"{dsn} user=nobody_here password={SECRET}").enqueue("t")
    assert SECRET not in str(caught.value) and "nobody_here" in str(caught.value)


def test_the_wrong_dsn_is_named_for_async_too() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"cannot connect to u@127\.0\.0\.1:1/db") as caught:
        asyncio.run(App(WRONG_DSNS[0]).enqueue_async("t"))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://u:p@h:5433/db", "u@h:5433/db"),
        ("dbname=db", "local socket/db"),
        ("host=h user=u", "u@h/u"),
        ("service=s", "s/"),
        ("what?", "an unreadable DSN"),
    ],
)
def test_where_a_dsn_points(dsn: str, shown: str) -> None:
    assert describe(dsn) == shown
