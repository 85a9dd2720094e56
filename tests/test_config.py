"""Settings: which source wins, what is refused, and that no message ever shows a password."""

import asyncio
import traceback
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from pgqueue import App, Config, ConfigError, DatabaseUnavailable, InvalidOption
from pgqueue.db import describe
from tests.untyped import untyped

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
        ('[tool.pgqueue]\nshema = "x"', r"sets 'shema', which is not a setting of pgqueue; did you mean 'schema'\?"),
        ("[tool.pgqueue]\npool-size = 1", r"did you mean 'pool_size'\?"),
        ("[tool.pgqueue]\nzzz = 1", "there are app, async_jobs, check_types, direct_dsn, dsn, keep_dead_days"),
        ("[tool.pgqueue]\npool_size = 0", "pool_size must be a whole number of at least 1, not 0"),
        ("[tool.pgqueue]\npool_size = true", "pool_size must be a whole number"),
        ('[tool.pgqueue]\nnotify = "maybe"', "notify must be one of idle, always, never, not 'maybe'"),
        ("[tool.pgqueue]\npool_timeout_s = nan", "pool_timeout_s must be a number of seconds"),
        ("[tool.pgqueue]\ncheck_types = 1", "check_types must be true or false, not 1"),
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
            _ = App(untyped(wrong)).config
    for wrong in "0", "-1", "many", "1.5", "9" * 5000:
        monkeypatch.setenv("PGQUEUE_ASYNC_JOBS", wrong)
        with pytest.raises(InvalidOption, match="async_jobs must be a whole number of at least 1, not"):
            _ = App().config
    monkeypatch.setenv("PGQUEUE_ASYNC_JOBS", "15")
    assert (App().config.async_jobs, App(async_jobs=5).config.async_jobs) == (15, 5)
    monkeypatch.setenv("PGQUEUE_NOTIFY", "loud")
    with pytest.raises(InvalidOption, match="notify must be one of"):
        _ = App().config


def test_in_production_nothing_is_started_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGQUEUE_ENV", "production")
    with pytest.raises(ConfigError, match="no database is named and PGQUEUE_ENV is production: set PGQUEUE_DSN"):
        App().enqueue("t")


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        (
            "postgresql+asyncpg://u:p%40q@h:5433/db",
            {"user": "u", "password": "p@q", "host": "h", "port": "5433", "dbname": "db"},
        ),
        ("postgresql+psycopg://u@h/db", {"user": "u", "host": "h", "dbname": "db"}),
        (
            "postgresql+psycopg2://u@h/db?sslmode=require",
            {"user": "u", "host": "h", "dbname": "db", "sslmode": "require"},
        ),
        ("postgresql+psycopg_async:///db", {"dbname": "db"}),
        ("postgres://u:a+b:c@h/db", {"user": "u", "password": "a+b:c", "host": "h", "dbname": "db"}),
        ("POSTGRESQL://h/db", {"host": "h", "dbname": "db"}),
        ("postgis://u@h:1,i:2/db", {"user": "u", "host": "h,i", "port": "1,2", "dbname": "db"}),
        ("postgresql+asyncpg://h/db?ssl=verify-full&timeout=2.5", {"sslmode": "verify-full", "connect_timeout": "3"}),
        ("postgres://h/db?ssl=true&pgbouncer=true", {"host": "h", "dbname": "db", "sslmode": "require"}),
        ("postgresql+asyncpg://h/db?prepared_statement_cache_size=0", {"host": "h", "dbname": "db"}),
        ("postgresql+psycopg2://u@/db?host=h:1&host=i:2", {"host": "h,i", "port": "1,2", "user": "u"}),
        ("postgresql+psycopg2:///db?host=/var/run/x%20y", {"host": "/var/run/x y", "dbname": "db"}),
        ("postgresql://h/db?schema=shop", {"options": "-csearch_path=shop"}),
        ("postgresql+asyncpg://h/db?application_name=a%20b", {"application_name": "a b"}),
        ("'postgresql+asyncpg://h/db?ssl=true'", {"host": "h", "dbname": "db", "sslmode": "require"}),
        ('"host=h dbname=db"', {"host": "h", "dbname": "db"}),
        ("host=h dbname=a+b://c", {"host": "h", "dbname": "a+b://c"}),
    ],
)
@pytest.mark.parametrize("variable", ["DATABASE_URL", "PGQUEUE_DSN"])
def test_addresses_as_other_libraries_write_them(
    url: str, wanted: dict[str, str], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, url)
    understood = conninfo_to_dict(App().config.dsn or "")
    assert understood.items() >= wanted.items()
    if "?" not in url:
        assert understood == wanted
    assert App(url).config.dsn == App().config.dsn


@pytest.mark.parametrize(
    "scheme", ["sqlite", "mysql", "mysql+pymysql", "redis", "mongodb", "mssql+pyodbc", "cockroachdb"]
)
def test_an_address_of_something_else(scheme: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{scheme}://u:{SECRET}@h/db?password={SECRET}"
    said = rf"is the address of something else \({scheme.partition('+')[0]}://\), and pgqueue needs PostgreSQL: set PGQUEUE_DSN"
    for variable in "DATABASE_URL", "PGQUEUE_DSN":
        monkeypatch.setenv(variable, url)
        with pytest.raises(ConfigError, match=f"^{variable} {said}") as caught:
            App().enqueue("t")
        assert SECRET not in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=rf"^dsn of App\(\) {said}"):
        App(url).enqueue("t")
    monkeypatch.delenv("PGQUEUE_DSN")
    write(project, f'[tool.pgqueue]\ndsn = "{url}"\n')
    with pytest.raises(
        ConfigError, match=r"^DATABASE_URL is the address"
    ):  # the stronger source is the one to be named
        App().enqueue("t")
    assert App("dbname=x").config.dsn == "dbname=x"  # a stronger one that fits needs nothing of it


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("server_settings=x", "has the parameter server_settings, which only asyncpg knows"),
        (f"charset=utf8&password={SECRET}", "has the parameter charset, which PostgreSQL's own library does not know"),
        ("ssl_context=x", "has the parameter ssl_context, which"),
    ],
)
def test_a_parameter_that_has_no_equal_is_named(query: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        App(f"postgresql+asyncpg://u:{SECRET}@127.0.0.1:1/db?{query}").enqueue("t")
    assert SECRET not in str(caught.value)


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
    f"postgresql://u:a?{SECRET}@127.0.0.1:1/db",
    f"postgresql+asyncpg://u:a&{SECRET}=?{SECRET}&ssl={SECRET}@127.0.0.1:1/db",
    f"postgresql+asyncpg://u:{SECRET}@127.0.0.1:1/db?ssl={SECRET}",
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
