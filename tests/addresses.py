"""The test database as other libraries want it said."""

from typing import Any

import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict


def url(dsn: str, scheme: str = "postgresql+asyncpg") -> str:
    """As an URL. SQLAlchemy's for asyncpg takes a folder of sockets as a host in the query only, as libpq does."""
    parts: dict[str, Any] = conninfo_to_dict(dsn)
    made = sa.URL.create(
        scheme,
        username=parts["user"],
        password=parts.get("password"),
        database=parts["dbname"],
        query={"host": parts["host"]},
    )
    return made.update_query_dict({"port": parts["port"]}).render_as_string(hide_password=False)
