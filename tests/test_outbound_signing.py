"""Signatures, verified by the Standard Webhooks project's own package."""

from __future__ import annotations

import base64
import hmac
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from monitor_cli.document import Entry
from monitor_cli.errors import MonitorError
from monitor_cli.outbound import signing
from monitor_cli.outbound.request import Content, Template, render
from monitor_cli.types import Region, Type

CONTENT = Content([Entry(Region("é", "c"), Type.CRITICAL, ("+1",))], "msg_1", 1700000000)


def test_a_secret_is_32_random_bytes_in_base64() -> None:
    secret = signing.new_secret()
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    assert signing.new_secret() != secret
    assert signing.new_secret(lambda size: b"\x01" * size) == "whsec_" + base64.b64encode(b"\x01" * 32).decode()


def test_the_specifications_example() -> None:
    # From the reference implementations' tests.
    signature = signing.sign(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(min_size=1, max_size=200), st.binary())
def test_a_key_of_any_length_signs_as_hmac_does(key: bytes, body: bytes) -> None:
    signature = signing.sign(["whsec_" + base64.b64encode(key).decode()], "msg_1", 1, body)
    assert base64.b64decode(signature.removeprefix("v1,")) == hmac.digest(key, b"msg_1.1." + body, "sha256")


@pytest.mark.parametrize(
    "template",
    [
        Template("https://example.com/", "data={response}"),
        Template("https://example.com/", "", (), True),
        Template("https://example.com/?d={response}"),
    ],
)
def test_standardwebhooks_verifies_every_form(template: Template) -> None:
    secret, old = signing.new_secret(), signing.new_secret()
    request = render(template, CONTENT)
    headers = dict(signing.headers([secret, old], "msg_1", int(time.time()), request.signed))
    assert headers["webhook-id"] == "msg_1"
    for known in (secret, old):
        Webhook(known).verify(request.signed, headers, json_parse=False)
    for wrong in (request.signed + b" ", b"x"):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(wrong, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.new_secret()).verify(request.signed, headers, json_parse=False)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!", "whsec_é"])
def test_a_secret_that_is_none_is_an_error_for_people(secret: str) -> None:
    with pytest.raises(MonitorError) as error:
        signing.sign([secret], "msg_1", 1, b"")
    assert secret not in error.value.message or not secret
    assert "rotate-secret" in (error.value.hint or "")
