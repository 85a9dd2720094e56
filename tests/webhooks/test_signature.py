"""Signatures, verified by the implementation of those who wrote the standard."""

import base64
import os
import time

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from pgqueue import ConfigError
from pgqueue.webhooks.signature import check_secret, new_secret, signed_headers

BODY = '{"type": "user.created", "data": {"name": "é"}}'


def signed(*secrets: str) -> dict[str, str]:
    return signed_headers("msg_1", BODY.encode(), secrets=secrets, at_s=int(time.time()))


def test_the_example_of_the_standard() -> None:
    headers = signed_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        b'{"test": 2432232314}',
        secrets=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        at_s=1614265330,
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_another_implementation_verifies_it() -> None:
    secret = new_secret()
    assert Webhook(secret).verify(BODY, signed(secret)) == {"type": "user.created", "data": {"name": "é"}}
    for wrong in (BODY.replace("é", "e"), BODY + " "):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(wrong, signed(secret))
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, signed(secret))
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY, {**signed(secret), "webhook-id": "msg_2"})


def test_while_rotating_each_secret_verifies_it() -> None:
    old, new = new_secret(), new_secret()
    for secret in (old, new):
        assert Webhook(secret).verify(BODY, signed(new, old))


def test_a_secret_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = new_secret()
    monkeypatch.setenv("HOOK_SECRET", secret)
    assert signed("env:HOOK_SECRET") == signed(secret)
    monkeypatch.setenv("HOOK_SECRET", "geheim")
    with pytest.raises(ConfigError, match="the environment variable HOOK_SECRET is not a valid secret") as refused:
        signed("env:HOOK_SECRET")
    assert "geheim" not in str(refused.value)
    monkeypatch.delenv("HOOK_SECRET")
    with pytest.raises(ConfigError, match="HOOK_SECRET, which is not set here"):
        signed("env:HOOK_SECRET")


@pytest.mark.parametrize("bytes_long", [24, 64])
def test_a_secret_of_the_standards_lengths(bytes_long: int) -> None:
    text = base64.b64encode(os.urandom(bytes_long)).decode()
    assert check_secret("secret", f"whsec_{text}") and check_secret("secret", text)


@pytest.mark.parametrize(
    "secret", ["", None, "geheim", "whsec_", "whsec_Z2VoZWlt", "env:", "env:a b", "whsec_" + "A" * 100]
)
def test_what_is_no_secret_is_refused_and_not_shown(secret: str | None) -> None:
    with pytest.raises(ConfigError) as refused:
        check_secret("secret", secret)
    assert "env:NAME" in str(refused.value) and "geheim" not in str(refused.value)
