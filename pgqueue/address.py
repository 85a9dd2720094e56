"""A database's address as other libraries write it (SQLAlchemy, Django, Prisma), turned into what libpq reads."""

import math
import re
from urllib.parse import quote, unquote

from pgqueue.errors import ConfigError

_URL = re.compile(
    r"(?P<dialect>[a-z][a-z0-9_.-]*)(?:\+[a-z0-9_]+)?://(?P<where>[^?]*)(?:\?(?P<query>.*))?", re.IGNORECASE | re.DOTALL
)
# As SQLAlchemy, dj-database-url and django-environ know PostgreSQL, with or without their extensions to it.
_POSTGRESQL = {"postgresql", "postgres", "postgis", "pgsql", "psql", "postgresql_psycopg2", "timescale", "timescalegis"}
# How a driver or a framework keeps its own statements and connections: it does not change where the database is.
_OF_DRIVERS = {
    "statement_cache_size", "prepared_statement_cache_size", "prepared_statement_name_func", "max_cached_statement_lifetime",
    "max_cacheable_statement_size", "prepare_threshold", "async_fallback", "command_timeout", "conn_max_age",
    "conn_health_checks", "pgbouncer", "connection_limit", "pool_timeout",
}  # fmt: skip
_SSL = {"true": "require", "1": "require", "on": "require", "false": "disable", "0": "disable", "off": "disable"}


def libpq(dsn: str, *, source: str) -> str:
    """The same address for libpq; whatever is no URL is left as it is. Raises ConfigError, which names the source of the setting.

    Whether libpq knows all that is in it is seen when it is first used.
    """
    dsn = dsn.strip()
    if len(dsn) > 1 and dsn[0] == dsn[-1] and dsn[0] in "'\"":  # as Docker hands on what its env file has in quotes
        dsn = dsn[1:-1]
    url = _URL.fullmatch(dsn)
    if url is None:
        return dsn
    dialect = url["dialect"].lower()
    if dialect not in _POSTGRESQL:
        raise ConfigError(
            f"{source} is the address of something else ({dialect}://), and pgqueue needs PostgreSQL: "
            "set PGQUEUE_DSN, as postgresql://user:password@host:5432/database"
        )
    if url["query"] is None:
        return f"postgresql://{url['where']}"
    return f"postgresql://{url['where']}?{_query(url['query'], source=source)}".rstrip("?")


def _query(query: str, *, source: str) -> str:
    """Its parameters by libpq's names; hosts that come one by one, as in SQLAlchemy, as one list."""
    known: dict[str, str | None] = {}
    hosts: list[str] = []
    for pair in filter(None, query.split("&")):
        name, given, value = pair.partition("=")
        match name.lower():
            case "host":
                hosts.append(unquote(value))
            case "ssl":
                known["sslmode"] = _SSL.get(value.lower(), value)
            case "timeout" if value.replace(".", "", 1).isdigit():
                known["connect_timeout"] = str(math.ceil(float(value)))
            case "schema":
                known["options"] = quote(f"-csearch_path={unquote(value)}")
            case "server_settings":
                raise ConfigError(
                    f"{source} has the parameter server_settings, which only asyncpg knows: "
                    "write options=-cname=value in its place, or set PGQUEUE_DSN"
                )
            case other if other in _OF_DRIVERS:
                continue
            case _:
                known[name] = value if given else None  # it may be the rest of a password: libpq must see it as it was
    if hosts:
        known |= _hosts(hosts)
    return "&".join(name if value is None else f"{name}={value}" for name, value in known.items())


def _hosts(hosts: list[str]) -> dict[str, str]:
    """host:port one by one, or a single folder or list as libpq has it."""
    if len(hosts) == 1 and (":" not in hosts[0] or hosts[0].startswith("/")):
        return {"host": quote(hosts[0], safe="/,")}
    names, ports = zip(*(host.partition(":")[::2] for host in hosts), strict=True)
    return {"host": quote(",".join(names), safe="/,")} | ({"port": ",".join(ports)} if any(ports) else {})
