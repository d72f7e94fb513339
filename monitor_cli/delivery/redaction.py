"""What a customer's server echoes of its own secrets is struck out before it reaches our tables and logs.

A server may write a header's value in many ways: in JSON, HTML or a form, one inside the other, or take it apart
(`Bearer`, `Basic`). Both the text and the secrets are therefore brought to one plain form, and what is found there is
struck out where it stands in the text.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

STRUCK = b"***"
SHORTEST_SECRET = 32  # ours have 44 characters, and every other way to write them has more

_ESCAPE = re.compile(
    rb"%(?P<hex>[0-9A-Fa-f]{2})"
    rb"|\\x(?P<byte>[0-9A-Fa-f]{2})"
    rb"|\\u(?P<unit>[0-9A-Fa-f]{4})"
    rb"|\\(?P<quoted>[\"'/\\])"
    rb"|(?P<entity>&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});)"
    rb"|(?P<tab>\\t)"
)
_MARKS = re.compile(rb"[%\\&]")
_CUT_ESCAPE = re.compile(rb"(?:%[0-9A-Fa-f]?|\\(?:x[0-9A-Fa-f]?|u[0-9A-Fa-f]{0,3})?|&[#A-Za-z0-9]{0,31})\Z")
_BLANKS = bytes.maketrans(b"+\t", b"  ")  # a form's + is a blank
_URL_SAFE = bytes.maketrans(b"+/", b"-_")  # RFC 4648 section 5
_SHORTEST_CODE = 8  # shorter ones are words of their own
_ROUNDS = 4  # JSON in a form in HTML, and one to spare
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9-]*[ \t]+(?P<credentials>\S.*)")
_SCHEMES = ("bearer", "basic", "token", "digest", "apikey", "key")
_SHORTEST_PART = 4  # shorter parts of a value would strike out half of any text
_PAIR = re.compile(r"=\s*\"?([^\s;,\"]{6,})")  # of a cookie, or of an Authorization made of parameters

_Starts = Sequence[int] | None  # of each byte of a plain form, where it began in the text; None: at its own place


def redact(body: bytes, secrets: Sequence[str], values: Sequence[str], *, cut: bool) -> bytes:
    """The text without our `secrets` and what these header `values` hold. `cut`: it is the start of a longer text, and
    its end may hold the start of one of them."""
    if not values and not cut and len(body) < SHORTEST_SECRET:
        return body  # most answers: to write down all forms of a secret that is asked about once takes 20 µs
    hidden = _hidden(tuple(secrets), tuple(values))
    if not hidden or (len(body) < hidden.shortest and not cut and not _MARKS.search(body)):
        return body
    spans = _raw_spans(body, hidden.raw) + _plain_spans(body, hidden.plain, cut)
    return _struck(body, spans) if spans else body


class _Hidden(NamedTuple):
    """What must not be kept: as it is, and in its plain form."""

    raw: Sequence[bytes]
    plain: Sequence[bytes]
    shortest: int


@lru_cache(maxsize=1024)
def _hidden(secrets: tuple[str, ...], values: tuple[str, ...]) -> _Hidden | None:
    words = dict.fromkeys(part for text in (*secrets, *values) for part in _parts(text) if part.strip())
    raw = {form for word in words for form in _encoded(word)}
    plain = {_plain(form)[0].rstrip(b"\\") for form in raw}  # a last backslash would escape the quote after it
    plain = {form for form in plain if form.strip()}
    raw |= {form for word in raw for form in _recoded(word)}
    return _Hidden(tuple(raw), tuple(plain), min(map(len, raw | plain))) if raw else None


def _encoded(word: str) -> tuple[bytes, bytes, bytes]:
    """In UTF-8, in Latin-1, which headers are sent in, and that read for UTF-8: Go and others write a replacement
    character then."""
    latin = word.encode("latin-1", "replace")
    return word.encode("utf-8", "replace"), latin, latin.decode("utf-8", "replace").encode()


def _recoded(word: bytes) -> Iterator[bytes]:
    """In hexadecimal, and in base64 wherever it stands in what is encoded: from each of three places in a group of
    three bytes, without the characters that share bits with its neighbours."""
    yield word.hex().encode()
    yield word.hex().upper().encode()
    for before in range(3):
        whole = base64.b64encode(bytes(before) + word).rstrip(b"=")
        own = whole[(before * 8 + 5) // 6 : len(whole) - ((before + len(word)) % 3 > 0)]
        if len(own) >= _SHORTEST_CODE:
            yield own
            yield own.translate(_URL_SAFE)


def _parts(text: str) -> list[str]:
    """A secret or a header's value, and what of it would do by itself."""
    parts = [text]
    if text.startswith("whsec_"):
        parts.append(text.removeprefix("whsec_"))
    if match := _SCHEME.fullmatch(text):
        credentials, scheme = match["credentials"].strip(), text.split()[0].lower()
        if scheme in _SCHEMES or len(credentials) >= _SHORTEST_PART:
            parts.append(credentials)
        if scheme == "basic":
            parts += _of_basic(credentials)
    return [*parts, *_PAIR.findall(text)]


def _of_basic(credentials: str) -> list[str]:
    """User and password of RFC 7617: the user may be an API key, with no password at all."""
    try:
        decoded = base64.b64decode(credentials + "=" * (-len(credentials) % 4))
    except (binascii.Error, ValueError):
        return []
    text = decoded.decode("utf-8", "replace")
    user, _, password = text.partition(":")
    return [text, password, *([user] if len(user) >= _SHORTEST_PART else [])]


# --- the plain form ---------------------------------------------------------------------------------------------------


def _plain(body: bytes) -> tuple[bytes, _Starts]:
    """The text with all escapes undone and every kind of blank alike, and where each of its bytes began."""
    starts: list[int] | None = None
    for _ in range(_ROUNDS):
        if not _MARKS.search(body):
            break
        undone, origins = _undo(body)
        if undone == body:
            break
        starts = origins if starts is None else [starts[at] for at in origins]
        body = undone
    return body.translate(_BLANKS), starts


def _undo(body: bytes) -> tuple[bytes, list[int]]:
    out, end = bytearray(), 0
    origins: list[int] = []
    for match in _ESCAPE.finditer(body):
        out += body[end : match.start()]
        origins += range(end, match.start())
        value = _MEANINGS[match.lastgroup or ""](match[0])
        out += value
        origins += [match.start()] * len(value)
        end = match.end()
    out += body[end:]
    origins += range(end, len(body) + 1)  # and where the text ends
    return bytes(out), origins


def _entity(text: bytes) -> bytes:
    return html.unescape(text.decode("ascii")).encode("utf-8", "replace")


_MEANINGS: dict[str, Callable[[bytes], bytes]] = {
    "hex": lambda text: bytes([int(text[1:], 16)]),
    "byte": lambda text: bytes([int(text[2:], 16)]),
    "unit": lambda text: chr(int(text[2:], 16)).encode("utf-8", "replace"),
    "quoted": lambda text: text[1:],
    "entity": _entity,
    "tab": lambda _: b"\t",
}


# --- finding and striking out -----------------------------------------------------------------------------------------


def _raw_spans(body: bytes, hidden: Sequence[bytes]) -> list[tuple[int, int]]:
    return [span for form in hidden for span in _places(body, form)]


def _plain_spans(body: bytes, hidden: Sequence[bytes], cut: bool) -> list[tuple[int, int]]:
    whole = len(body)
    if cut:
        body = _CUT_ESCAPE.sub(b"", body)
    plain, starts = _plain(body)
    found = [span for form in hidden for span in _places(plain, form)]
    if cut:
        found += [(len(plain) - length, len(plain)) for form in hidden if (length := _begun(plain, form))]
    return [
        (
            start if starts is None else starts[start],
            whole if end == len(plain) else end if starts is None else starts[end],
        )
        for start, end in found
    ]


def _places(body: bytes, form: bytes) -> list[tuple[int, int]]:
    """What of the text is covered by a form, also where it overlaps itself. From each place to the furthest that it
    touches: a customer who answers with a single letter 4 000 times must not hold up the others."""
    spans, length = [], len(form)
    start = body.find(form)
    while start >= 0:
        last = start
        while (further := body.rfind(form, last + 1, last + 2 * length)) > last:
            last = further
        spans.append((start, last + length))
        start = body.find(form, last + length)
    return spans


def _begun(body: bytes, form: bytes) -> int:
    """How much of the start of a form the text ends with."""
    longest = min(len(form) - 1, len(body))
    return next((length for length in range(longest, 0, -1) if body.endswith(form[:length])), 0)


def _struck(body: bytes, spans: list[tuple[int, int]]) -> bytes:
    """The text with what the spans cover replaced, once where they touch."""
    out, end, covered = bytearray(), 0, -1
    for start, stop in sorted(spans):
        if start > covered:
            out += body[end:start] + STRUCK
        covered = end = max(covered, stop)
    return bytes(out + body[max(end, 0) :])
