"""The signature of a delivery, as Standard Webhooks 1.0 has it: HMAC-SHA256 of id, time and body, once for each valid secret."""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence

from pgqueue.config import environment
from pgqueue.errors import ConfigError

WHSEC = "whsec_"
FROM_VARIABLE = re.compile(r"env:([A-Za-z_]\w*)")
LEAST, MOST = 24, 64  # bytes of a secret, by the standard
NEW = 32


def new_secret() -> str:
    """One that nobody knows yet."""
    return WHSEC + base64.b64encode(secrets.token_bytes(NEW)).decode()


def check_secret(option: str, value: object) -> str:
    """`env:NAME`, or a secret itself. Raises ConfigError, which does not show it."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{option} takes env:NAME, the variable that holds it, or {WHSEC} and base64")
    if not FROM_VARIABLE.fullmatch(value):
        _decoded(value, where=option)
    return value


def key_of(secret: str) -> bytes:
    """The bytes that sign. Raises ConfigError if the variable is not set here, or holds no secret."""
    named = FROM_VARIABLE.fullmatch(secret)
    if named is None:
        return _decoded(secret, where="a secret of the webhook")
    value = environment(named[1])
    if value is None:
        raise ConfigError(f"a webhook is signed by the environment variable {named[1]}, which is not set here")
    return _decoded(value, where=f"the environment variable {named[1]}")


def _decoded(secret: str, *, where: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(WHSEC), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not LEAST <= len(key) <= MOST:
        raise ConfigError(
            f"{where} is not a valid secret: write {WHSEC} and {LEAST} to {MOST} bytes in base64, or env:NAME"
        )
    return key


def signed_headers(event_id: str, body: bytes, *, secrets: Sequence[str], at_s: int) -> dict[str, str]:
    """What a receiver verifies with any one of the secrets; at_s: the time of this attempt, of which it allows five minutes."""
    signed = f"{event_id}.{at_s}.".encode() + body
    signatures = (hmac.new(key_of(secret), signed, hashlib.sha256).digest() for secret in secrets)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(signature).decode()}" for signature in signatures),
    }
