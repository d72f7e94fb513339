"""docs/callbacks.md keeps its word: each example request is what is sent, each verifier verifies."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from monitor_cli import document
from monitor_cli.outbound import signing
from monitor_cli.outbound.addresses import Policy
from monitor_cli.outbound.content import VALUES
from monitor_cli.outbound.request import Content, Template, check_header_line, check_template, render
from monitor_cli.types import Region, Type

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "callbacks.md").read_text("utf-8")
CONTENT = Content(document.entries([(Region("karnataka", "KA-IN"), Type.CRITICAL, "+8787")]), "msg_2f1c", 1700000000)
EXAMPLES = re.findall(r"```sh\n(.*?)\n```\n```http\n(.*?)```", TEXT, re.DOTALL)


def template_of(flags: str) -> Template:
    words = iter(shlex.split(flags))
    given: dict[str, str] = {}
    headers = []
    for word in words:
        if word == "--header":
            headers.append(check_header_line(next(words)))
        else:
            given[word] = "" if word == "--raw-json" else next(words)
    return Template(given["--url"], given.get("--payload"), tuple(headers), "--raw-json" in given)


def test_there_is_an_example_for_each_form() -> None:
    assert len(EXAMPLES) == 5


@pytest.mark.parametrize(("flags", "http"), EXAMPLES)
def test_each_example_is_what_is_sent(flags: str, http: str) -> None:
    template = template_of(flags)
    check_template(template, Policy())
    request = render(template, CONTENT)
    head = [f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers)]
    body = "" if request.body is None else "\n" + request.body.decode() + "\n"
    assert http == "\n".join(head) + "\n" + body


def test_the_placeholders_values_are_the_examples() -> None:
    assert VALUES["response"](CONTENT) in TEXT
    for name in ("event_id", "timestamp", "type", "region", "numbers", "message"):
        value = VALUES[name](CONTENT)
        assert f"`{value}` |" in TEXT or f"`{value}`, " in TEXT


CALLS = {
    "python": (
        [sys.executable, "-c"],
        "import json, sys\nc = json.load(sys.stdin)\nprint(verify(c['secret'], c['headers'], c['signed'].encode()))",
    ),
    "js": (
        ["node", "-e"],
        "const c = JSON.parse(require('fs').readFileSync(0));"
        "console.log(verify(c.secret, c.headers, Buffer.from(c.signed)));",
    ),
    "php": (
        ["php", "-r"],
        "$c = json_decode(file_get_contents('php://stdin'), true); $h = $c['headers'];"
        "$ok = verify($c['secret'], $h['webhook-id'], $h['webhook-timestamp'], $h['webhook-signature'], $c['signed']);"
        "var_export($ok);",
    ),
}


@pytest.mark.parametrize("language", CALLS)
def test_each_verifier_takes_ours_and_nothing_else(language: str) -> None:
    command, call = CALLS[language]
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    block = re.search(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert block
    secret, old = signing.new_secret(), signing.new_secret()
    signed = render(Template("https://example.com/?d={response}&é={message}"), CONTENT).signed

    def verdict(known: str, at: int, text: str) -> bool:
        headers = dict(signing.headers([secret, old], "msg_1", at, signed))
        done = subprocess.run(
            [*command, block[1] + call],
            input=json.dumps({"secret": known, "headers": headers, "signed": text}),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return {"true": True, "false": False}[done.stdout.strip().lower()]

    now = int(time.time())
    assert verdict(secret, now, signed.decode())
    assert verdict(old, now, signed.decode())
    assert not verdict(signing.new_secret(), now, signed.decode())
    assert not verdict(secret, now, signed.decode() + "x")
    assert not verdict(secret, now - 3600, signed.decode())
