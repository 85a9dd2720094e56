"""One delivery: what is sent, what is made of the answer, and where it must not go."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgqueue.errors import InvalidOption, WebhookFailed, WebhookRefused
from pgqueue.webhooks import post as post_module
from pgqueue.webhooks.post import Answer, post
from pgqueue.webhooks.website import Website, is_public
from tests.webhooks.receiver import Receiver, drip, hang, huge, raw, receiver, status


@pytest.fixture
def endpoint() -> Iterator[Receiver]:
    with receiver() as started:
        yield started


def send(
    url: str, body: bytes = b"{}", *, allow_private: bool = True, within_s: float = 10, headers: Any = None
) -> Answer:
    target = Website.read(url, allow_private=True)
    return asyncio.run(post(target, body, headers or {}, allow_private=allow_private, within_s=within_s))


def test_a_post_is_sent(endpoint: Receiver) -> None:
    assert send(endpoint.url, b'{"n": 1}', headers={"webhook-id": "1"}) == Answer(204, None, "")
    (got,) = endpoint.delivered
    assert (got.path, got.body, got.headers["webhook-id"]) == ("/hook?source=shop", b'{"n": 1}', "1")
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == f"127.0.0.1:{endpoint.server_port}"


def test_an_error_shows_the_beginning_of_its_body(endpoint: Receiver) -> None:
    endpoint.replies = [status(500, b"no\x1b[31m room\r\n" + b"x" * 1_000), huge]
    answer = send(endpoint.url)
    assert answer.status == 500 and "\x1b" not in answer.text and len(answer.text) <= 320
    began = time.monotonic()
    assert send(endpoint.url).status == 500 and time.monotonic() - began < 5


def test_what_is_said_before_the_answer_is_passed_over(endpoint: Receiver) -> None:
    endpoint.replies = [raw(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 202 Accepted\r\n\r\n")]
    assert send(endpoint.url).status == 202


@pytest.mark.parametrize("reply", [hang, drip])
def test_all_of_it_has_one_deadline(endpoint: Receiver, reply: Any) -> None:
    endpoint.replies = [reply]
    began = time.monotonic()
    with pytest.raises(WebhookFailed, match=r"gave no answer in 0.5 s"):
        send(endpoint.url, within_s=0.5)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 20\r\n\r\n", b"x" * 200_000, b"HTTP/2 200 OK\r\n\r\n"]
)
def test_what_is_not_http_is_a_failure(endpoint: Receiver, said: bytes) -> None:
    endpoint.replies = [raw(said)]
    with pytest.raises(WebhookFailed, match=r"not valid HTTP|was closed before"):
        send(endpoint.url)


def test_nobody_there_is_a_failure() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(WebhookFailed, match=rf"http://127.0.0.1:{port}: .*"):
            send(f"http://127.0.0.1:{port}/")
    with pytest.raises(WebhookFailed, match=r"http://no-such-host.invalid: "):
        send("http://no-such-host.invalid/")


def test_a_redirect_is_an_answer_and_not_followed(endpoint: Receiver) -> None:
    endpoint.replies = [status(302, location=endpoint.url)]
    assert send(endpoint.url).status == 302 and len(endpoint.delivered) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "120"}, 120),
        ({"retry_after": "0"}, 0),
        ({"retry_after": "Sat, 28 Nov 2026 12:01:00 GMT", "date": "Sat, 28 Nov 2026 12:00:00 GMT"}, 60),
        ({"retry_after": "Sat, 28 Nov 2026 11:00:00 GMT", "date": "Sat, 28 Nov 2026 12:00:00 GMT"}, 0),
        ({"retry_after": "Sat, 28 Nov 2020 11:00:00 GMT"}, 0),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-5"}, None),
        ({}, None),
    ],
)
def test_retry_after(endpoint: Receiver, headers: dict[str, str], seconds: float | None) -> None:
    endpoint.replies = [status(503, b"", **headers)]
    assert send(endpoint.url).retry_after_s == seconds


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the package openssl")
def test_a_certificate_is_verified_for_the_host(
    endpoint: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run([*made.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    identity = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    identity.load_cert_chain(certificate, key)
    endpoint.socket = identity.wrap_socket(endpoint.socket, server_side=True)
    with pytest.raises(WebhookFailed, match="its certificate is not valid: self"):
        send(f"https://localhost:{endpoint.server_port}/")
    monkeypatch.setattr(post_module, "_trust", lambda: ssl.create_default_context(cafile=certificate))
    assert send(f"https://localhost:{endpoint.server_port}/").status == 204
    with pytest.raises(WebhookFailed, match="its certificate is not valid: IP address mismatch"):
        send(f"https://127.0.0.1:{endpoint.server_port}/")


# -- where it must not go --


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",

        "2002:a00:1::", "64:ff9b::a9fe:a9fe", "2001:db8::1",
    ],
)  # fmt: skip
def test_private_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


def test_a_name_that_is_private_is_refused(endpoint: Receiver) -> None:
    with pytest.raises(WebhookRefused, match=r"http://localhost:\d+ is at .*, a private address"):
        send(f"http://localhost:{endpoint.server_port}/", allow_private=False)
    assert endpoint.delivered == []


def test_it_connects_to_the_address_that_was_checked(endpoint: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that answers first with a public address and then with a private one gets nowhere."""
    asked: list[str] = []
    answers = iter(["192.0.2.7", "127.0.0.1"])

    async def getaddrinfo(host: str, port: int, **_: object) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    opened: list[str] = []

    async def open_connection(address: str, port: int, **_: object) -> Any:
        opened.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    async def run() -> Answer:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        monkeypatch.setattr(asyncio, "open_connection", open_connection)
        monkeypatch.setattr(post_module, "is_public", lambda address: address == "192.0.2.7")
        target = Website.read("https://rebinding.example/")
        return await post(target, b"{}", {}, allow_private=False, within_s=5)

    with pytest.raises(WebhookFailed, match="Connection refused"):
        asyncio.run(run())
    assert (asked, opened) == (["rebinding.example"], ["192.0.2.7"])


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (5, "url takes a string"),
        ("", "is not the URL of a website"),
        ("ftp://host/", "is not the URL of a website"),
        ("https:///path", "is not the URL of a website"),
        ("https://host:x/", "is not a valid URL"),
        ("https://[::1/", "is not a valid URL"),
        ("https://me:geheim@host/", "holds a user or a password before host"),
        ("http://host/", "http://host, which is not encrypted"),
        ("https://host/a b", "must be percent-encoded"),
        ("https://host/a#b", "has a fragment"),
        ("https://host/a\r\nx: y", "url"),
        ("https://10.0.0.1/", "a private address"),
        ("https://[::1]/", "a private address"),
    ],
)
def test_one_line_says_what_is_wrong_with_a_url(url: Any, said: str) -> None:
    if url == "https://host/a\r\nx: y":  # urlsplit drops the line end
        assert Website.read("https://host/a\r\nx:y").path == "/ax:y"
        return
    with pytest.raises(InvalidOption) as refused:
        Website.read(url)
    assert said in str(refused.value) and "geheim" not in str(refused.value) and "\n" not in str(refused.value)


def test_a_url_is_read() -> None:
    found = Website.read("https://bücher.example:8443/in?x=1")
    assert (found.host, found.port, found.path) == ("xn--bcher-kva.example", 8443, "/in?x=1")
    assert found.site == "https://xn--bcher-kva.example:8443"
