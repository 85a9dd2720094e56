"""Names of channels, and what PostgreSQL calls them."""

import hashlib
from collections.abc import Sequence

from pgqueue.errors import InvalidOption

MAX_NATIVE_BYTES = 63
HEAD_BYTES = 40
DIGEST_DIGITS = 22
MAX_TIMEOUT_S = 1_000_000  # threads cannot wait for much longer


def native(channel: str) -> str:
    """The name under which a channel is known to the server: as it is, or beginning and digest of one over 63 bytes.

    LISTEN would cut a longer name without a word and pg_notify refuse it, so both ends go through here.
    """
    name = channel.encode()
    if len(name) <= MAX_NATIVE_BYTES:
        return channel
    return f"{name[:HEAD_BYTES].decode(errors='ignore')}~{hashlib.sha256(name).hexdigest()[:DIGEST_DIGITS]}"


def check_channels(channels: Sequence[str], *, doorbells: Sequence[str]) -> dict[str, str]:
    """The channels by their native names. Raises InvalidOption for what is not a name, and for our own doorbells."""
    if not channels:
        raise InvalidOption("listen() needs the name of a channel, as in listen('orders')")
    return {check_channel(channel, doorbells=doorbells): channel for channel in reversed(channels)}


def check_channel(channel: object, *, doorbells: Sequence[str]) -> str:
    """The native name of one. Raises InvalidOption."""
    if not isinstance(channel, str):
        raise InvalidOption(f"the name of a channel must be text, not {type(channel).__name__}")
    if not channel:
        raise InvalidOption("the name of a channel must not be empty")
    if "\0" in channel or any("\ud800" <= sign <= "\udfff" for sign in channel):
        raise InvalidOption(f"the channel {channel!r} has a character that PostgreSQL cannot store: leave it out")
    name = native(channel)
    if name in doorbells:
        raise InvalidOption(f"the channel {channel!r} is used by pgqueue itself: take another name")
    return name


def check_timeout(timeout: object) -> float | None:
    """The seconds. Raises InvalidOption."""
    if timeout is None:
        return None
    if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not 0 <= timeout <= MAX_TIMEOUT_S:
        raise InvalidOption(f"timeout takes a number of seconds from 0 to {MAX_TIMEOUT_S:,}, or None, not {timeout!r}")
    return float(timeout)
