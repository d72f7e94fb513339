"""What libcurl's faults mean, in words for the customer who reads them in `delivery show`."""

from __future__ import annotations

import os
import re

import pycurl

_TOO_LARGE = 100  # CURLE_TOO_LARGE, which pycurl has no name for

_BROKEN = {
    pycurl.E_GOT_NOTHING: "the connection was closed without an answer",
    pycurl.E_RECV_ERROR: "the connection broke before the answer was whole",
    pycurl.E_SEND_ERROR: "the connection broke while the request was sent",
}
_PLAIN = {
    None: "the answer ended before its headers did",
    pycurl.E_UNSUPPORTED_PROTOCOL: "what came back is no HTTP/1.1 answer",
    pycurl.E_FTP_WEIRD_SERVER_REPLY: "what came back is no HTTP/1.1 answer",  # HTTP's code has the same number
    pycurl.E_BAD_CONTENT_ENCODING: "the answer is encoded in a way that was not asked for",
    pycurl.E_SSL_CACERT_BADFILE: "the file of certificate authorities (ca_file) cannot be read",
    _TOO_LARGE: "the answer has too many headers",
}
_CERTIFICATE = (pycurl.E_SSL_PEER_CERTIFICATE, pycurl.E_SSL_CACERT)
_NOISE = re.compile(
    r"^TLS connect error: *|^SSL certificate OpenSSL verify result: *|^SSL: *|error:[0-9A-Fa-f]+:[^:]*:[^:]*:"
)


def fault_words(code: int | None, words: str, sent: bool, seconds: float, place: str, number: int) -> str:
    """Why there is no answer. `code` and `words` are libcurl's (None: it sees no fault), `number` the system's errno or
    0; `sent`: a byte of the request was; `seconds`: how long it took; `place`: the address and port that were dialled,
    '' for none."""
    why = f": {os.strerror(number)}" if number else ""
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return f"{'no whole answer' if sent else 'no connection'} came: timed out after {seconds:.1f} s"
    if code == pycurl.E_COULDNT_CONNECT:
        return f"no connection to {place or 'its server'}{why}"
    if code in _BROKEN:
        return _BROKEN[code] + why
    if code in _PLAIN:
        return _PLAIN[code]
    if code == pycurl.E_SSL_CONNECT_ERROR:
        return f"no TLS connection: {_NOISE.sub('', words) or 'the handshake failed'}"
    if code in _CERTIFICATE:
        return f"its certificate does not hold: {_NOISE.sub('', words)}"
    return words or f"it failed inside libcurl (code {code})"
