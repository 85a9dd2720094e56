"""What `conn=` takes, for type checkers. Told by what the objects can do, so that no library is imported to name them, and nobody
needs the types of one that is not installed.
"""

from typing import Any, Protocol, TypeAlias

from pgqueue.db.doors.psycopg import AsyncConnection, Connection


class SqlalchemyTransaction(Protocol):
    """SQLAlchemy's Session, AsyncSession, Connection, AsyncConnection, and scoped ones; SQLModel's, Flask-SQLAlchemy's db.session.

    No Engine and no sessionmaker: these have no transaction.
    """

    def begin_nested(self) -> Any: ...


class AsyncpgConnection(Protocol):
    """asyncpg's Connection. No Pool: that takes another connection for each statement."""

    def transaction(self) -> Any: ...

    def is_in_transaction(self) -> Any: ...


class Psycopg2Connection(Protocol):
    """psycopg2's connection."""

    def get_transaction_status(self) -> Any: ...

    def tpc_recover(self) -> Any: ...


class DjangoConnection(Protocol):
    """Django's `connections[alias]`."""

    @property
    def vendor(self) -> str: ...

    def savepoint_commit(self, sid: Any, /) -> Any: ...


class ConnectionProxy(Protocol):
    """What stands for one of the others and hands on what it is asked: that of asyncpg's pool, and Django's `connection`."""

    def __getattr__(self, name: str, /) -> Any: ...


CallerConnection: TypeAlias = (
    Connection
    | AsyncConnection
    | SqlalchemyTransaction
    | AsyncpgConnection
    | Psycopg2Connection
    | DjangoConnection
    | ConnectionProxy
)
"""A connection or session of the caller's, in whose transaction jobs go."""
