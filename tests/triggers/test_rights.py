"""With roles: the owner role owns the functions, the application owns its tables, and nobody needs more rights than before."""

from collections.abc import Iterator

import psycopg
import pytest

from pgqueue import App
from pgqueue.errors import NotAllowed
from tests.test_roles import House, building


@pytest.fixture
def house(server_dsn: str) -> Iterator[House]:
    """A database with roles; the login `owner` migrates and owns a table, to which the login `reader` writes."""
    with building(server_dsn) as made:
        with made.app() as app:
            app.migrate(roles=True)
        for role in ("owner", "worker", "reader"):
            made.sql(f"create role {made.schema}_{role}_login login password 'secret'")
            made.sql(f"grant {made.schema}_{role} to {made.schema}_{role}_login")
        made.sql(f"create schema shop authorization {made.schema}_owner_login")
        made.sql("create table shop.users (id int primary key)", "owner")
        made.sql(f"grant usage on schema shop to {made.schema}_reader_login", "owner")
        made.sql(f"grant insert on shop.users to {made.schema}_reader_login", "owner")
        yield made


def declaring(app: App) -> App:
    app.task(name="t")(lambda op, id_: None)
    app.trigger("shop.users", on=["insert"], task="t")
    return app


def test_functions_belong_to_the_owner_role_and_triggers_to_the_tables_owner(house: House) -> None:
    with house.app("owner") as app:
        assert [change.what for change in declaring(app).triggers.sync()] == ["created"]
    owners = "select proowner::regrole::text from pg_proc where prorettype = 'trigger'::regtype and proname like '%_users_t_insert'"
    assert house.sql(owners) == [(f"{house.schema}_owner",)]
    house.sql("insert into shop.users values (1)", "reader")
    assert house.sql("select task, args from jobs.job") == [("t", '["insert", 1]')]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        house.sql("insert into jobs.job (id, task) values (gen_random_uuid(), 't')", "reader")
    with house.app("reader") as app:
        assert declaring(app).triggers.check() == []
        assert [each.name for each in app.triggers.listing()] == ["users_t"]
    with house.app("owner") as app:
        app.triggers.drop(["users_t"])
    house.sql("insert into shop.users values (2)", "reader")
    assert house.sql("select count(*) from jobs.job") == [(1,)]


def test_others_may_not(house: House) -> None:
    with house.app("worker") as app, pytest.raises(NotAllowed, match=f"member of {house.schema}_owner"):
        declaring(app).triggers.sync()
    house.sql(f"alter table shop.users owner to {house.schema}_worker_login")
    with (
        house.app("owner") as app,
        pytest.raises(NotAllowed, match=r"users_t: permission denied for .*users; nothing was changed"),
    ):
        declaring(app).triggers.sync()


def test_the_script_does_the_same(house: House) -> None:
    with house.app("owner") as app:
        text = declaring(app).triggers.script()
    with house.session("owner") as conn:
        conn.execute(text.encode())
    with house.app("owner") as app:
        assert declaring(app).triggers.check() == []
        assert [change.what for change in app.triggers.sync()] == ["unchanged"]
