"""Rendering a callback's request, to the byte: method, URL, body and headers (SPEC 7, "The request").

A template is judged and cut once (cached); a request is then filled in one pass. Scheme, host and port come from the
judged Target alone.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from monitor_cli.outbound.addresses import Policy
from monitor_cli.outbound.content import VALUES, Content, content_of
from monitor_cli.outbound.headers import RefusedTemplate, check_header_line, check_headers
from monitor_cli.outbound.payload import PERCENT_FILLERS, PLACEHOLDER, Pieces, cut, fill, form_body, json_body, percent
from monitor_cli.outbound.url import URL_LIMIT, Target, judge_target, split_url

__all__ = [
    "URL_LIMIT",
    "Content",
    "RefusedTemplate",
    "Request",
    "Template",
    "check_header_line",
    "check_headers",
    "check_template",
    "content_of",
    "method_of",
    "near_misses",
    "render",
    "tells_anything",
]

FORM_TYPE = "application/x-www-form-urlencoded"
JSON_TYPE = "application/json"

# What a URL's path and query may not hold as it is (RFC 3986, sections 3.3 and 3.4, and braces, which SPEC 7 leaves
# as they are): percent-encoded, as is a % that begins no %XX. %c3 becomes %C3, since libcurl would make it so anyway.
_UNSAFE = re.compile(r"(%[0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;={}]")
_BRACED = re.compile(r"\{([ A-Za-z_-]{1,30})\}")


@dataclass(frozen=True)
class Template:
    """A callback as the plugin's form has it, with its placeholders; an empty payload and none are the same."""

    url: str
    payload: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    raw_json: bool = False


class Request(NamedTuple):
    """What is sent to whom. `url` is rebuilt from the Target, `target` its path and query as sent, both ASCII;
    `headers` are Content-Type and the customer's own (Latin-1). With CURLOPT_PATH_AS_IS libcurl sends `target` to the
    byte, so that a GET's signature fits."""

    method: str
    url: str
    target: str
    body: bytes | None
    headers: tuple[tuple[str, str], ...]
    to: Target

    @property
    def signed(self) -> bytes:
        """What the signature is made over: the body; of a GET, which has none, the request target."""
        return self.target.encode("ascii") if self.body is None else self.body


class _Plan(NamedTuple):
    target: Target
    path: Pieces
    body: Pieces | None
    headers: tuple[tuple[str, str], ...]


def method_of(template: Template) -> str:
    """GET for a callback without a payload whose raw-JSON box is unchecked, POST for every other."""
    return "POST" if template.raw_json or _payload(template) else "GET"


def tells_anything(template: Template) -> bool:
    """Whether a callback's requests say anything of the status: a placeholder does, and raw JSON without a payload."""
    text = template.url + _payload(template)
    return (template.raw_json and not _payload(template)) or PLACEHOLDER.search(text) is not None


def near_misses(template: Template) -> dict[str, str]:
    """The words in braces that are no placeholders and are sent as they stand, but look like one; with that one."""
    words = dict.fromkeys(_BRACED.findall(f"{template.url} {_payload(template)}"))
    found = ((word, difflib.get_close_matches(word.strip().lower(), VALUES, 1, 0.75)) for word in words)
    return {word: near[0] for word, near in found if near and word not in VALUES}


def check_template(template: Template, policy: Policy) -> Target:
    """Judge a callback's URL, payload and headers; the same at `callback add` and at sending. Raises RefusedURL or
    RefusedTemplate (both UsageError)."""
    target = _plan(template).target
    judge_target(target, policy)
    return target


def render(template: Template, content: Content) -> Request:
    """The request that tells this content. Raises as check_template does, but for the address, which it does not
    judge."""
    plan = _plan(template)
    path = fill(plan.path, content)
    url = plan.target.origin + path
    if plan.body is None:
        return Request("GET", url, path, None, plan.headers, plan.target)
    body = fill(plan.body, content).encode("utf-8", "replace")
    return Request("POST", url, path, body, plan.headers, plan.target)


@lru_cache(maxsize=8192)
def _plan(template: Template) -> _Plan:
    target, rest = split_url(template.url)
    check_headers(template.headers)
    path = cut(rest if rest.startswith("/") else "/" + rest, PERCENT_FILLERS, _safe)
    payload = _payload(template)
    if template.raw_json:
        return _Plan(target, path, json_body(payload), _with_type(template.headers, JSON_TYPE))
    if payload:
        return _Plan(target, path, form_body(payload), _with_type(template.headers, FORM_TYPE))
    return _Plan(target, path, None, template.headers)


def _payload(template: Template) -> str:
    payload = template.payload or ""
    return payload if payload.strip() else ""


def _safe(literal: str) -> str:
    return _UNSAFE.sub(lambda match: match[0].upper() if match[1] else percent(match[0]), literal)


def _with_type(headers: tuple[tuple[str, str], ...], content_type: str) -> tuple[tuple[str, str], ...]:
    """The customer's headers, after our Content-Type unless they have one themselves."""
    if any(name.lower() == "content-type" for name, _ in headers):
        return headers
    return (("Content-Type", content_type), *headers)
