"""What goes through NOTIFY: JSON text, and envelopes of ours for what would not fit in or would be folded.

NOTIFY takes fewer than 8,000 bytes, and of equal notifications of one transaction it sends one. An envelope is an object whose only
or first key is `$pgqueue`; whatever does not look exactly like one of ours is passed on as it came.
"""

import re
import secrets
from typing import NamedTuple

from pgqueue.codec.calls import encode_plain
from pgqueue.job import new_id

LARGE_BYTES = 7_500  # in UTF-8; other encodings of a database may take a little more
MARK = '{"$pgqueue"'
_LARGE = re.compile(r'\{"\$pgqueue":"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"\}')
_DISTINCT = re.compile(r'\{"\$pgqueue":\["[0-9a-f]{16}",(.*)\]\}', re.DOTALL)


class Packed(NamedTuple):
    """What NOTIFY sends, and what is kept in the table under which id, if anything is."""

    sent: str
    notice_id: str | None = None
    text: str = ""


def pack(payload: object, *, channel: str, distinct: bool, max_bytes: int) -> Packed:
    """Raises InvalidArguments for what is no JSON and for more than max_bytes of it."""
    text = encode_plain(payload, path=f"notify({channel!r}): payload", max_bytes=max_bytes)
    wraps = distinct or text.startswith(MARK)  # the caller's own object may have a key like ours
    sent = f'{MARK}:["{secrets.token_hex(8)}",{text}]}}' if wraps else text
    if len(sent.encode()) <= LARGE_BYTES:
        return Packed(sent)
    notice_id = new_id()
    return Packed(f'{MARK}:"{notice_id}"}}', notice_id, text)


def notice_id(sent: str) -> str | None:
    """The id of the row that holds the payload; None: it is in what was sent."""
    found = _LARGE.fullmatch(sent) if sent.startswith(MARK) else None
    return found[1] if found else None


def unpack(sent: str) -> str:
    """The payload of what was sent without a row."""
    found = _DISTINCT.fullmatch(sent) if sent.startswith(MARK) else None
    return found[1] if found else sent
