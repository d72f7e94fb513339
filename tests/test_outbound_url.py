"""Customers' URLs: what is refused, and what is accepted."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from monitor_cli.outbound.addresses import Policy
from monitor_cli.outbound.url import RefusedURL, check_url

LOOPBACK_ALLOWED = Policy(allow=(ip_network("127.0.0.0/8"), ip_network("::1/128")))

# (URL, a word of the reason)
HOSTILE = [
    # not a URL, or not one for us
    ("", "empty"),
    ("example.com", "does not begin"),
    ("//example.com/", "does not begin"),
    ("/path", "does not begin"),
    ("http:", "no //"),
    ("http:/example.com", "no //"),
    ("http:example.com", "no //"),
    ("http://", "no host"),
    ("http:///path", "no host"),
    ("http://?x=1", "no host"),
    ("http://:80/", "no host"),
    ("http://./", "no host"),
    ("ftp://example.com/", "scheme is ftp"),
    ("file:///etc/passwd", "scheme is file"),
    ("gopher://127.0.0.1:6379/_FLUSHALL", "scheme is gopher"),
    ("dict://example.com/", "scheme is dict"),
    ("javascript:alert(1)", "scheme is javascript"),
    ("ws://example.com/", "scheme is ws"),
    ("https+unix://x/", "scheme is https+unix"),
    ("localhost:8080/", "scheme is localhost"),
    ("http://example.com/" + "a" * 8000, "more than 8000"),
    # blanks and control characters, outside and inside
    (" http://example.com/", "blank"),
    ("http://example.com/ ", "blank"),
    ("http://example.com/\n", "blank"),
    ("\thttp://example.com/", "blank"),
    ("http://exam ple.com/", "blank"),
    ("http://exam\tple.com/", "blank"),
    ("ht\ntp://example.com/", "blank"),
    ("http://example.com/a b", "blank"),
    ("http://example.com/\r\nX-Evil: 1", "blank"),
    ("http://example.com/\x00", "blank"),
    ("http://example.com/\x7f", "blank"),
    ("http://example.com/\x85", "blank"),
    ("http://example.com\u00a0/", "blank"),
    ("http://example.com/\u2028x", "blank"),
    ("http://exam\u200bple.com/", "blank"),
    ("\ufeffhttp://example.com/", "blank"),
    ("http://example\u00ad.com/", "blank"),
    ("http://example.com/\ud800", "blank"),
    # parsers' quarrels
    ("http://example.com\\@127.0.0.1/", "backslash"),
    ("http:\\\\example.com/", "backslash"),
    ("http://example.com/a\\b", "backslash"),
    ("http://example.com#@127.0.0.1/", "fragment"),
    ("http://example.com/#x", "fragment"),
    ("http://example.com/#{response}", "fragment"),
    # user names and passwords
    ("http://user@example.com/", "user name"),
    ("http://user:pw@example.com/", "user name"),
    ("http://@example.com/", "user name"),
    ("http://:@example.com/", "user name"),
    ("http://example.com@127.0.0.1/", "user name"),
    ("http://127.0.0.1:80@example.com:80/", "user name"),
    # placeholders outside path and query
    ("{response}", "does not begin"),
    ("{type}://example.com/", "does not begin"),
    ("http://{region}/", "placeholder"),
    ("http://{region}.example.com/", "placeholder"),
    ("http://example.com{response}/", "placeholder"),
    ("http://example.com:{timestamp}/", "placeholder"),
    ("http://[{numbers}]/", "placeholder"),
    ("http://exa{mple.com/", "placeholder"),
    # ports
    ("http://example.com:0/", "port"),
    ("http://example.com:65536/", "port"),
    ("http://example.com:99999/", "port"),
    ("http://example.com:/", "port"),
    ("http://example.com:-1/", "port"),
    ("http://example.com:+80/", "port"),
    ("http://example.com:080/", "port"),
    ("http://example.com:8O/", "port"),
    ("http://example.com:80:80/", "port"),
    ("http://example.com:８０/", "port"),
    # hosts that no name can be
    ("http://example..com/", "no name can have"),
    ("http://.example.com/", "no name can have"),
    ("http://example.com../", "no name can have"),
    ("http://-example.com/", "no name can have"),
    ("http://example-.com/", "no name can have"),
    ("http://exa$mple.com/", "no name can have"),
    ("http://a,b.com/", "no name can have"),
    ("http://a'b.com/", "no name can have"),
    ("http://" + "a" * 64 + ".com/", "no name can have"),
    ("http://" + "a." * 127 + "com/", "253"),
    ("http://%31%32%37.0.0.1/", "percent-encoded"),
    ("http://ex%61mple.com/", "percent-encoded"),
    ("http://127.0.0.1%2f@example.com/", "user name"),
    # names of this machine
    ("http://localhost/", "host is localhost"),
    ("http://LOCALHOST:8080/", "host is localhost"),
    ("http://localhost./", "host is localhost"),
    ("http://foo.localhost/", "host is foo.localhost"),
    ("http://Foo.LocalHost./", "host is foo.localhost"),
    # IPv4 in its other spellings
    ("http://2130706433/", "ends in a number"),
    ("http://0x7f000001/", "ends in a number"),
    ("http://0X7F000001/", "ends in a number"),
    ("http://017700000001/", "ends in a number"),
    ("http://0x7f.1/", "ends in a number"),
    ("http://0x7f.0.0.1/", "ends in a number"),
    ("http://0177.0.0.1/", "ends in a number"),
    ("http://127.0.0.01/", "ends in a number"),
    ("http://127.1/", "ends in a number"),
    ("http://127.0.1/", "ends in a number"),
    ("http://127.0.0.0x1/", "ends in a number"),
    ("http://127.0.0.1.1/", "ends in a number"),
    ("http://256.1.1.1/", "ends in a number"),
    ("http://0/", "ends in a number"),
    ("http://0x/", "ends in a number"),
    ("http://example.1/", "ends in a number"),
    ("http://8.8.8.08/", "ends in a number"),
    # addresses
    ("http://127.0.0.1/", "loopback"),
    ("http://127.0.0.1./", "loopback"),
    ("https://127.8.8.8:8443/x?y={type}", "loopback"),
    ("http://0.0.0.0/", "this network"),
    ("http://10.0.0.1/", "private"),
    ("http://172.16.0.1/", "private"),
    ("http://192.168.1.1/", "private"),
    ("http://100.64.0.1/", "shared"),
    ("http://169.254.169.254/latest/meta-data/", "link-local"),
    ("http://192.0.0.192/", "IETF"),
    ("http://168.63.129.16/", "host agent"),
    ("http://192.0.2.1/", "documentation"),
    ("http://198.18.0.1/", "benchmarking"),
    ("http://224.0.0.1/", "multicast"),
    ("http://255.255.255.255/", "broadcast"),
    ("http://[::]/", "unspecified"),
    ("http://[::1]/", "loopback"),
    ("http://[0:0:0:0:0:0:0:1]:80/", "loopback"),
    ("http://[::127.0.0.1]/", "IPv4-compatible"),
    ("http://[::ffff:127.0.0.1]/", "IPv4-mapped for 127.0.0.1"),
    ("http://[::FFFF:7F00:1]/", "IPv4-mapped for 127.0.0.1"),
    ("http://[::ffff:a9fe:a9fe]/", "IPv4-mapped for 169.254.169.254"),
    ("http://[64:ff9b::7f00:1]/", "NAT64 for 127.0.0.1"),
    ("http://[64:ff9b:1::a00:1]/", "local NAT64"),
    ("http://[2002:7f00:1::]/", "6to4 for 127.0.0.1"),
    ("http://[2001:0:808:808::80ff:fffe]/", "Teredo for 127.0.0.1"),
    ("http://[fc00::1]/", "unique local"),
    ("http://[fd00:ec2::254]/", "unique local"),
    ("http://[fe80::1]/", "link-local"),
    ("http://[fec0::1]/", "site-local"),
    ("http://[ff02::1]/", "multicast"),
    ("http://[2001:db8::1]/", "documentation"),
    ("http://[3fff::1]/", "documentation"),
    ("http://[5f00::1]/", "SRv6"),
    ("http://[100::1]/", "discard"),
    ("http://[2001:20::1]/", "ORCHID"),
    # brackets
    ("http://[fe80::1%25eth0]/", "zone id"),
    ("http://[fe80::1%eth0]/", "zone id"),
    ("http://[::1/", "cannot be read"),
    ("http://::1/", "port"),
    ("http://[::1]x/", "cannot be read"),
    ("http://[]/", "no IPv6"),
    ("http://[127.0.0.1]/", "no IPv6"),
    ("http://[v1.x]/", "no IPv6"),
    ("http://[example.com]/", "no IPv6"),
    ("http://exa[mple].com/", "cannot be read"),
    # IDNA: what other parsers map to something else
    ("http://１２７.0.0.1/", "international"),
    ("http://127。0。0。1/", "international"),
    ("http://127．0．0．1/", "international"),
    ("http://127｡0｡0｡1/", "international"),
    ("http://①②⑦.0.0.1/", "international"),
    ("http://ｌｏｃａｌｈｏｓｔ/", "international"),
    ("http://ⓛocalhost/", "international"),
    ("http://loca\u017fhost/", "international"),
    ("http://loc\u0130l.example/", "international"),
    ("http://example\u2044.com/", "international"),
    ("http://example.com\uff0f.evil.com/", "international"),
    ("http://ex\u212ample.com/", "international"),
    ("http://xn--/", "international"),
    ("http://xn--localhost-/", "international"),
    ("http://xn--ls8h.la/", "international"),
    ("http://١٢٧.0.0.1/", "international"),
]

GOOD = [
    ("http://example.com", "http", "example.com", 80),
    ("https://example.com/", "https", "example.com", 443),
    ("HTTPS://Example.COM:8443/Hook?x={response}", "https", "example.com", 8443),
    ("http://example.com:80/", "http", "example.com", 80),
    ("http://example.com?d={response}", "http", "example.com", 80),
    ("http://example.com/{region}/{type}?n={numbers}&t={timestamp}", "http", "example.com", 80),
    ("http://example.com/a@b:c?d=e@f", "http", "example.com", 80),
    ("http://example.com/?u=http://127.0.0.1/", "http", "example.com", 80),
    ("http://example.com/{not-ours}/{}", "http", "example.com", 80),
    ("http://example.com/straße?ü=1", "http", "example.com", 80),
    ("http://example.com./", "http", "example.com", 80),
    ("http://intranet/", "http", "intranet", 80),
    ("http://my_host.example.com/", "http", "my_host.example.com", 80),
    ("http://1.example.com/", "http", "1.example.com", 80),
    ("http://127.0.0.1.example.com/", "http", "127.0.0.1.example.com", 80),
    ("http://notlocalhost/", "http", "notlocalhost", 80),
    ("http://localhost.example.com/", "http", "localhost.example.com", 80),
    ("https://bücher.example/", "https", "xn--bcher-kva.example", 443),
    ("https://xn--bcher-kva.example/", "https", "xn--bcher-kva.example", 443),
    ("https://XN--BCHER-KVA.example/", "https", "xn--bcher-kva.example", 443),
    ("https://straße.example/", "https", "xn--strae-oqa.example", 443),
    ("https://例え.jp/", "https", "xn--r8jz45g.jp", 443),
    ("https://कर्नाटक.example/", "https", "xn--11ba3a9a1b7exe.example", 443),
    ("http://8.8.8.8/", "http", "8.8.8.8", 80),
    ("http://8.8.8.8.:65535/", "http", "8.8.8.8", 65535),
    ("http://[2606:4700:4700:0::1111]/", "http", "2606:4700:4700::1111", 80),
    ("https://[2606:4700:4700::1111]:8443/", "https", "2606:4700:4700::1111", 8443),
]


def test_the_table_is_as_long_as_promised() -> None:
    assert len({url for url, _ in HOSTILE}) == len(HOSTILE) >= 80


@pytest.mark.parametrize(("url", "word"), HOSTILE, ids=lambda value: ascii(value)[:60])
def test_hostile_urls_are_refused_in_clear_words(url: str, word: str) -> None:
    with pytest.raises(RefusedURL) as refused:
        check_url(url, Policy())
    assert word in refused.value.message
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(("url", "scheme", "host", "port"), GOOD)
def test_good_urls_are_accepted(url: str, scheme: str, host: str, port: int) -> None:
    target = check_url(url, Policy())
    assert (target.scheme, target.host, target.port) == (scheme, host, port)
    is_address = ":" in host or host == "8.8.8.8"
    assert target.address == (host if is_address else None)


def test_destination_tells_who_shares_a_server() -> None:
    assert check_url("HTTP://Example.com/a", Policy()).destination == "example.com:80"
    assert check_url("https://[2606:4700::1]/a", Policy()).destination == "[2606:4700::1]:443"


def test_allow_networks_open_addresses_and_never_the_name_localhost() -> None:
    assert check_url("http://127.0.0.1:8080/", LOOPBACK_ALLOWED).address == "127.0.0.1"
    assert check_url("http://[::1]:8080/", LOOPBACK_ALLOWED).destination == "[::1]:8080"
    for url in ("http://localhost/", "http://[::ffff:127.0.0.1]/", "http://127.1/", "http://10.0.0.1/"):
        with pytest.raises(RefusedURL):
            check_url(url, LOOPBACK_ALLOWED)


def test_deny_networks_refuse_the_platforms_own_addresses() -> None:
    network = (ip_network("8.8.8.0/24"),)
    with pytest.raises(RefusedURL, match="deny_networks") as refused:
        check_url("http://8.8.8.8/", Policy(allow=network, deny=network))
    assert "deny_networks" in (refused.value.hint or "")  # allow_networks alone would not open it


def test_a_refusal_does_not_repeat_the_urls_secrets() -> None:
    with pytest.raises(RefusedURL) as refused:
        check_url("http://user:hunter2@example.com/?token=s3cret", Policy())
    assert "hunter2" not in str(refused.value)
    assert "s3cret" not in str(refused.value)
