"""Which addresses customers' requests may go to (SPEC 9, Hostile URLs)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monitor_cli.outbound.addresses import Policy, refusal

REFUSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::2",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0a00:1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "64:ff9b:1::8.8.8.8",
    "64:ff9b:1:abcd::1",
    "100::1",
    "100:0:0:1::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:1::1",
    "2001:db8::1",
    "3fff::1",
    "3fff:fff::1",
    "5f00::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2002:a9fe:a9fe::",
    "2002:c0a8:101::1",
    "2001:0:808:808:0:0:80ff:fffe",
    "2001:0:808:808::f5ff:fffe",
    "2001:0:7f00:1::f7f7:f7f7",
    "2a00:1450::5efe:7f00:1",
    "2a00:1450::200:5efe:10.0.0.1",
    "2002:808:808::5efe:a9fe:a9fe",
    "200::1",
    "1::1",
    "4000::1",
    "e000::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "feff::1",
    "ff02::1",
    "ff0e::1",
    "fe80::1%eth0",
    "2606:4700::1%1",
    "::1%lo",
]

FINE = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:82a::200e",
    "2001:4860:4860::8888",
    "2001:200::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    "2a00:1450::5efe:8.8.8.8",
    "2001:0:808:808::f7f7:f7f7",
]


@pytest.mark.parametrize("address", REFUSED)
def test_refused_with_a_reason_that_names_it(address: str) -> None:
    reason = refusal(address, Policy())
    assert reason is not None
    assert str(ip_address(address)) in reason
    assert refusal(ip_address(address), Policy()) == reason


@pytest.mark.parametrize("address", FINE)
def test_fine(address: str) -> None:
    assert refusal(address, Policy()) is None


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "1.2.3.4 ", "::g"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    assert "is no IP address" in (refusal(text, Policy()) or "")


def _policy(allow: str = "", deny: str = "") -> Policy:
    return Policy(tuple(map(ip_network, allow.split())), tuple(map(ip_network, deny.split())))


@pytest.mark.parametrize(
    ("address", "allow", "fine"),
    [
        ("127.0.0.1", "127.0.0.0/8", True),
        ("10.1.2.3", "10.1.0.0/16", True),
        ("10.2.2.3", "10.1.0.0/16", False),
        ("::1", "::1/128", True),
        ("fd00::5", "fd00::/8", True),
        # A wrapped form is reached by its own network and the wrapped address's, never by one of them.
        ("::ffff:127.0.0.1", "127.0.0.0/8", False),
        ("::ffff:127.0.0.1", "::ffff:0:0/96", False),
        ("::ffff:127.0.0.1", "::ffff:0:0/96 127.0.0.0/8", True),
        ("64:ff9b::10.0.0.1", "10.0.0.0/8", False),
        ("64:ff9b::10.0.0.1", "64:ff9b::/96 10.0.0.0/8", True),
        ("64:ff9b:1::8.8.8.8", "64:ff9b:1::/96", True),
        ("64:ff9b:1::10.0.0.1", "64:ff9b:1::/96", False),
        ("2002:7f00:1::", "::/0", False),
        ("fe80::1%eth0", "fe80::/10", False),
    ],
)
def test_allow_networks(address: str, allow: str, fine: bool) -> None:
    assert (refusal(address, _policy(allow)) is None) is fine


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::", "2001:0:808:808::fefe:fefe"]
)
def test_deny_networks_beat_allow_and_see_through_wrapped_forms(address: str) -> None:
    denied = _policy(allow="0.0.0.0/0 ::/0", deny="8.8.8.0/24")
    assert "deny_networks (8.8.8.0/24)" in (refusal(address, denied) or "")
    assert refusal(address, _policy(deny="9.9.9.0/24")) is None


@given(st.ip_addresses(v=4))
@example(IPv4Address("127.0.0.1"))
@example(IPv4Address("8.8.8.8"))
def test_every_wrapped_form_is_judged_as_the_address_in_it(inner: IPv4Address) -> None:
    number = int(inner)
    forms = [
        int(IPv6Address("::ffff:0:0")) | number,
        int(IPv6Address("64:ff9b::")) | number,
        int(IPv6Address("2002::")) | number << 80 | 1,
        int(IPv6Address("2001:0:101:101::")) | (number ^ 0xFFFFFFFF),
        int(IPv6Address("2001::")) | number << 64 | (int(IPv4Address("1.1.1.1")) ^ 0xFFFFFFFF),
    ]
    for form in forms:
        assert (refusal(IPv6Address(form), Policy()) is None) is (refusal(inner, Policy()) is None)


@given(st.ip_addresses())
def test_what_python_calls_not_global_is_refused_but_for_wrapped_forms(address: IPv4Address | IPv6Address) -> None:
    wrapped = isinstance(address, IPv6Address) and (
        address.ipv4_mapped or address.sixtofour or address.teredo or address in ip_network("64:ff9b::/96")
    )
    if not address.is_global and not wrapped:
        assert refusal(address, Policy()) is not None
