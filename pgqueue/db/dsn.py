"""What a DSN says, what we add to it, and why there is no connection: in one line without the password."""

import re
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgqueue.errors import ConfigError, DatabaseUnavailable

CONNECT_TIMEOUT_S = 3  # an unreachable host answers nothing for minutes otherwise
# Without these a vanished network is noticed after two hours; measured with them: 5 to 6 seconds.
KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}
# It also counts while the other side does not read, as a server does whose COPY waits for a lock: a task's own statements
# may wait longer for that than ours.
TASK_USER_TIMEOUT_MS = 60_000


def conninfo(parameters: Mapping[str, Any], *, role: str | None = None) -> str:
    """A DSN of what a framework connects with, less what libpq does not know. role: the one to assume, as by SET ROLE."""
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    given = {name: value for name, value in parameters.items() if name in known and value not in (None, "")}
    if role:
        escaped = re.sub(r"([\\\s])", r"\\\1", role)
        given["options"] = f"{given.get('options', '')} -crole={escaped}".strip()
    return make_conninfo(**given)


def describe(dsn: str) -> str:
    """Where a DSN points, for people: user, host, port and database, never the password."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.Error:
        return "an unreadable DSN"
    if _is_torn(parts):
        return "an unreadable DSN"
    where = parts.get("host") or parts.get("hostaddr") or parts.get("service") or "local socket"
    port = f":{parts['port']}" if parts.get("port") else ""
    user = f"{parts['user']}@" if parts.get("user") else ""
    return f"{user}{where}{port}/{parts.get('dbname') or parts.get('user') or ''}"


def with_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    return make_conninfo(dsn, dbname=name)


def connection_settings(dsn: str, *, timeout_s: float, name: str, private: bool = True) -> dict[str, Any]:
    """Our connection settings, each but the encoding only where the DSN does not say otherwise."""
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        # Of libpq's words only the name of a parameter: the rest may quote a password.
        if unknown := re.match(r'invalid (?:URI query parameter|connection option)[^"]*"(\w{1,40})"', str(error)):
            raise ConfigError(
                f"the DSN has the parameter {unknown[1]}, which PostgreSQL's own library does not know: take it out, or set "
                "PGQUEUE_DSN to an address without it"
            ) from None
        raise ConfigError(
            "the DSN cannot be read: write postgresql://user:password@host:5432/database or host=... dbname=..."
        ) from None
    if _is_torn(given):
        raise ConfigError(
            "the DSN cannot be read: the port is a number, and a password takes %40 for an @ and %2F for a /"
        )
    wanted = {
        "connect_timeout": max(2, round(timeout_s)),
        "application_name": name,
        "client_encoding": "UTF8",
        **KEEPALIVE,
        **({} if private else {"tcp_user_timeout": TASK_USER_TIMEOUT_MS}),
    }
    if "," in str(given.get("host") or given.get("hostaddr") or ""):
        wanted["target_session_attrs"] = "read-write"  # of a primary and its standbys: the one that takes writes
    # Another encoding could not carry every text there is: neither the DSN nor the environment chooses it.
    return {key: value for key, value in wanted.items() if key not in given or key == "client_encoding"}


def _is_torn(given: dict[str, Any]) -> bool:
    """Whether libpq cut a URL within the password, at an @ or / that was not escaped: its rest is then in host, port or dbname."""
    host, port, database = (str(given.get(name) or "") for name in ("host", "port", "dbname"))
    return "@" in host[1:] or "@" in database or (not port.replace(",", "").isdigit() and port != "")


def no_connection(dsn: str, error: psycopg.Error) -> ConfigError | DatabaseUnavailable:
    lines = str(error).splitlines() or [type(error).__name__]
    # One line per host that was tried, each followed by lines of advice: the last verdict is the one that counts.
    reason = ([line for line in lines if "failed: " in line] or lines)[-1].rpartition("failed: ")[2].strip()
    password = conninfo_to_dict(dsn).get("password")
    if password:
        reason = reason.replace(str(password), "***")
    if reason.endswith(_NO_WORD):
        reason = "libpq failed before connecting: out of file descriptors or memory"
    elif "connection is bad: " in lines[0] and not any(sign in lines[0] for sign in _TRIED):
        return ConfigError(f"the DSN cannot be used: {reason.removeprefix('connection is bad: ')}")
    return DatabaseUnavailable(
        f"cannot connect to {describe(dsn)}: {reason}; check PGQUEUE_DSN and that the server runs"
    )


# What libpq says once it looks for the server. Before that it can only have disliked an option, as an unknown sslmode.
_TRIED = ("connection to server", "translate host name")
_NO_WORD = "no error details available"  # psycopg's, when libpq said nothing
