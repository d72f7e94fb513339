"""Rendering a callback's request, to the byte: method, URL, body and headers (SPEC 7, "The request").

A template is judged and cut, and its request filled in one pass. What callbacks share is judged once (cached): host and
port, payload, headers; their paths differ. Scheme, host and port come from the judged Target alone.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import NamedTuple

from monitor_cli.outbound.addresses import Policy
from monitor_cli.outbound.content import VALUES, Content
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
    "method_of",
    "near_misses",
    "render",
    "tells_anything",
]

FORM_TYPE = "application/x-www-form-urlencoded"
JSON_TYPE = "application/json"

# What a URL's path and query may not hold as it is (RFC 3986, sections 3.3 and 3.4, and braces, which SPEC 7 leaves
# as they are): percent-encoded, as is a % that begins no %XX. %c3 becomes %C3, since libcurl would make it so anyway.
# The set of characters comes first, so that the search for them is one loop in C.
_UNSAFE = re.compile(r"[^A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;={}](?:(?<=%)[0-9A-Fa-f]{2})?")
_BRACED = re.compile(r"\{([ A-Za-z_-]{1,30})\}")

Headers = tuple[tuple[str, str], ...]


class Template(NamedTuple):
    """A callback as the plugin's form has it, with its placeholders; an empty payload and none are the same."""

    url: str
    payload: str | None = None
    headers: Headers = ()
    raw_json: bool = False


class Request(NamedTuple):
    """What is sent to whom. `url` is rebuilt from the Target, `target` its path and query as sent, both ASCII;
    `headers` are Content-Type and the customer's own (Latin-1). With CURLOPT_PATH_AS_IS libcurl sends `target` to the
    byte, so that a GET's signature fits."""

    method: str
    url: str
    target: str
    body: bytes | None
    headers: Headers
    to: Target

    @property
    def signed(self) -> bytes:
        """What the signature is made over: the body; of a GET, which has none, the request target."""
        return self.target.encode("ascii") if self.body is None else self.body


def method_of(template: Template) -> str:
    """GET for a callback without a payload whose raw-JSON box is unchecked, POST for every other."""
    return "POST" if _content_type(template) else "GET"


def tells_anything(template: Template) -> bool:
    """Whether a callback's requests say anything of the status: a placeholder does, and raw JSON without a payload."""
    text = template.url + _payload(template.payload)
    return (template.raw_json and not _payload(template.payload)) or PLACEHOLDER.search(text) is not None


def near_misses(template: Template) -> dict[str, str]:
    """The words in braces that are no placeholders and are sent as they stand, but look like one; with that one."""
    words = dict.fromkeys(_BRACED.findall(f"{template.url} {_payload(template.payload)}"))
    found = ((word, difflib.get_close_matches(word.strip().lower(), VALUES, 1, 0.75)) for word in words)
    return {word: near[0] for word, near in found if near and word not in VALUES}


def check_template(template: Template, policy: Policy) -> Target:
    """Judge a callback's URL, payload and headers; the same at `callback add` and at sending. Raises RefusedURL or
    RefusedTemplate (both UsageError)."""
    target, *_ = _plan(template)
    judge_target(target, policy)
    return target


def render(template: Template, content: Content) -> Request:
    """The request that tells this content. Raises as check_template does, but for the address, which it does not
    judge."""
    target, headers, path_pieces, body_pieces = _plan(template)
    path = fill(path_pieces, content)
    url = target.origin + path
    if body_pieces is None:
        return Request("GET", url, path, None, headers, target)
    body = fill(body_pieces, content).encode("utf-8", "replace")
    return Request("POST", url, path, body, headers, target)


def _plan(template: Template) -> tuple[Target, Headers, Pieces, Pieces | None]:
    """Whom a template's requests go to, their headers, and the pieces of their path and of their body."""
    target, rest = split_url(template.url)
    headers = _headers(template.headers, _content_type(template))
    path = cut(_safe(rest if rest.startswith("/") else "/" + rest), PERCENT_FILLERS)
    return target, headers, path, _body(template.payload, template.raw_json)


def _content_type(template: Template) -> str | None:
    """What a POST says of its body; None for a GET."""
    if template.raw_json:
        return JSON_TYPE
    return FORM_TYPE if _payload(template.payload) else None


def _payload(payload: str | None) -> str:
    return payload if payload and payload.strip() else ""


@lru_cache(maxsize=8192)
def _body(payload: str | None, raw_json: bool) -> Pieces | None:
    text = _payload(payload)
    if raw_json:
        return json_body(text)
    return form_body(text) if text else None


@lru_cache(maxsize=8192)
def _headers(own: Headers, content_type: str | None) -> Headers:
    """The customer's headers, judged, after our Content-Type unless they have one themselves."""
    check_headers(own)
    if content_type is None or any(name.lower() == "content-type" for name, _ in own):
        return own
    return (("Content-Type", content_type), *own)


def _safe(path: str) -> str:
    return _UNSAFE.sub(_encoded, path)


def _encoded(match: re.Match[str]) -> str:
    return match[0].upper() if len(match[0]) == 3 else percent(match[0])
