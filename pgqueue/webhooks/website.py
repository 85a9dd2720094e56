"""Where a webhook goes to: its URL in parts, and which addresses it may be sent to.

A user that may name a URL could otherwise have a worker ask what only machines inside of its network can: metadata of a
cloud, databases, consoles without a password.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from pgqueue.errors import InvalidOption

PATH = re.compile(r"[!-~]*")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Website:
    """A checked URL."""

    tls: bool
    host: str
    port: int
    path: str
    """With its query; both may hold a secret."""
    site: str
    """Scheme, host and port: what messages say."""

    @classmethod
    def read(cls, url: object, *, allow_private: bool = False) -> Self:
        """Raises InvalidOption, which names what is wrong; asks no name server."""
        if not isinstance(url, str):
            raise InvalidOption(f"url takes a string, not a {type(url).__name__}")
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").encode("idna").decode(), parts.port
        except (ValueError, UnicodeError):
            raise InvalidOption("url is not a valid URL: write it as https://host/path") from None
        tls = parts.scheme == "https"
        if parts.scheme not in ("http", "https") or not host:
            raise InvalidOption("url is not the URL of a website: write it as https://host/path")
        site = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{'' if port is None else f':{port}'}"
        if parts.username is not None or parts.password is not None:
            raise InvalidOption(
                f"url holds a user or a password before {host}: what is secret belongs in secret=, as env:NAME"
            )
        if not tls and not allow_private:
            raise InvalidOption(f"url is {site}, which is not encrypted: write https://, or allow private addresses")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if parts.fragment or not PATH.fullmatch(path):
            raise InvalidOption(f"url has a fragment, or characters after {site} that must be percent-encoded")
        if not allow_private and is_address(host) and not is_public(host):
            raise InvalidOption(f"url is {site}, a private address, and the webhook does not allow those")
        return cls(tls, host, port or (443 if tls else 80), path, site)


def is_address(host: str) -> bool:
    """Whether it is one, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Whether the whole internet can be meant by it. What carries another address within is judged by that one."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inner is None and found in NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast
