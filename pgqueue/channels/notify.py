"""Sending: the statements of one notification, in whatever transaction they run."""

from pgqueue.channels.payloads import Packed
from pgqueue.errors import ConfigError, DatabaseUnavailable
from pgqueue.queries import Queries, Steps, ask

ROOM = 0.5  # of the server's queue; see sql/channels/notify.sql


def notify(queries: Queries, name: str, packed: Packed) -> Steps[None]:
    """Send it to the channel with this native name.

    A full queue would fail the commit of the caller's whole transaction, and PostgreSQL prepares none that notifies: both are
    refused before.
    """
    if packed.notice_id is None:
        statement = queries.notify(name, packed.sent)
    else:
        statement = queries.notify_large(name, packed.sent, id_=packed.notice_id, text=packed.text)
    (done,) = yield from ask(statement)
    if done.sent == 1:
        return
    if done.share < ROOM:
        raise ConfigError(
            "a transaction that is to be prepared (two-phase commit) cannot notify: notify after it, on another connection"
        )
    raise DatabaseUnavailable(
        f"the server's queue of notifications is {done.share:.0%} full, so this one was not sent: a session that listens stays in "
        "a transaction or is frozen; `pgqueue doctor` names the oldest transaction"
    )
