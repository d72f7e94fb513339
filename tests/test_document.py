"""The response document, to the byte (SPEC 5)."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
import xmltodict
from hypothesis import given
from hypothesis import strategies as st

from monitor_cli.document import Entry, entries, error_json, error_xml, to_json, to_xml
from monitor_cli.types import Region, Type

KA = Region("karnataka", "KA-IN")
DECLARATION = '<?xml version="1.0" encoding="utf-8"?>'

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
# What XML carries and gives back as it was: no control characters, no carriage return that a reader would change.
xml_texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=6)


def facts(text: st.SearchStrategy[str]) -> st.SearchStrategy[list[tuple[Region, Type, str]]]:
    return st.lists(st.tuples(st.builds(Region, text, text), st.sampled_from(list(Type)), text))


def test_the_contract_s_own_example():
    listed = entries([(KA, Type.OPERATIONAL, "+878788197367616")])
    assert to_json(listed) == (
        b'{"status":"200","message":"OK","data":{"incidents":[{"region":"karnataka","region_code":"KA-IN",'
        b'"type":"operational","service":"all","numbers":["+878788197367616"]}]}}'
    )
    assert to_xml(listed).decode() == (
        f"{DECLARATION}<api><status>200</status><message>OK</message><data><incidents><monitor><region>karnataka</region>"
        "<region_code>KA-IN</region_code><type>operational</type><service>all</service><numbers>"
        "<monitor>+878788197367616</monitor></numbers></monitor></incidents></data></api>"
    )


def test_several_entries_and_numbers():
    listed = entries([(KA, Type.CRITICAL, "+2"), (KA, Type.CRITICAL, "+1"), (Region("", ""), Type.WARNING, "7")])
    assert to_json(listed) == (
        b'{"status":"200","message":"OK","data":{"incidents":['
        b'{"region":"","region_code":"","type":"warning","service":"all","numbers":["7"]},'
        b'{"region":"karnataka","region_code":"KA-IN","type":"critical","service":"all","numbers":["+1","+2"]}]}}'
    )
    assert to_xml(listed).decode() == (
        f"{DECLARATION}<api><status>200</status><message>OK</message><data><incidents>"
        "<monitor><region></region><region_code></region_code><type>warning</type><service>all</service>"
        "<numbers><monitor>7</monitor></numbers></monitor>"
        "<monitor><region>karnataka</region><region_code>KA-IN</region_code><type>critical</type><service>all</service>"
        "<numbers><monitor>+1</monitor><monitor>+2</monitor></numbers></monitor></incidents></data></api>"
    )


def test_non_ascii_is_utf8_unescaped_and_xml_specials_are_escaped():
    listed = entries([(Region('ಕರ್ನಾಟಕ <&>"', "🇮🇳"), Type.WARNING, "1")])
    assert '"region":"ಕರ್ನಾಟಕ <&>\\"","region_code":"🇮🇳"' in to_json(listed).decode()
    assert '<region>ಕರ್ನಾಟಕ &lt;&amp;&gt;"</region><region_code>🇮🇳</region_code>' in to_xml(listed).decode()


def test_what_xml_cannot_carry_is_replaced():
    listed = entries([(Region("a\x00b\x1bc\ufffed\ud800", "\t\n\r"), Type.WARNING, "1")])
    assert (
        "<region>a\ufffdb\ufffdc\ufffdd\ufffd</region><region_code>\t\n&#13;</region_code>" in to_xml(listed).decode()
    )
    assert json.loads(to_json(listed))["data"]["incidents"][0]["region"] == "a\x00b\x1bc\ufffed?"


def test_a_number_counts_once_a_region_at_its_worst():
    delhi = Region("delhi", "DL-IN")
    listed = entries(
        [
            (KA, Type.OPERATIONAL, "1"),
            (KA, Type.CRITICAL, "1"),
            (KA, Type.WARNING, "1"),
            (KA, Type.OPERATIONAL, "2"),
            (delhi, Type.OPERATIONAL, "1"),
        ]
    )
    assert listed == [
        Entry(delhi, Type.OPERATIONAL, ("1",)),
        Entry(KA, Type.CRITICAL, ("1",)),
        Entry(KA, Type.OPERATIONAL, ("2",)),
    ]


def test_errors_have_no_data():
    assert error_json("E542", "User Plugin not found or inactive") == (
        b'{"status":"E542","message":"User Plugin not found or inactive"}'
    )
    assert (
        error_xml("401", "a < b").decode() == f"{DECLARATION}<api><status>401</status><message>a &lt; b</message></api>"
    )


@given(facts(texts))
def test_entries_are_grouped_sorted_and_worst(given_facts):
    listed = entries(given_facts)
    keys = [(e.region.region, e.region.region_code, -e.type) for e in listed]
    assert keys == sorted(set(keys))
    for e in listed:
        assert list(e.numbers) == sorted(set(e.numbers))
        assert e.numbers
    told = {(e.region, number): e.type for e in listed for number in e.numbers}
    expected: dict[tuple[Region, str], Type] = {}
    for region, kind, number in given_facts:
        expected[region, number] = max(kind, expected.get((region, number), kind))
    assert told == expected
    assert sum(len(e.numbers) for e in listed) == len(expected)


@given(facts(texts))
def test_json_reads_back(given_facts):
    listed = entries(given_facts)
    body = json.loads(to_json(listed))
    assert list(body) == ["status", "message", "data"]
    assert [tuple(i.values()) for i in body["data"]["incidents"]] == [
        (*e.region, e.type.word, "all", list(e.numbers)) for e in listed
    ]


@given(facts(xml_texts))
def test_xml_reads_back(given_facts):
    listed = entries(given_facts)
    found = ElementTree.fromstring(to_xml(listed)).findall("data/incidents/monitor")
    read = [
        (
            Region(m.findtext("region") or "", m.findtext("region_code") or ""),
            m.findtext("type"),
            m.findtext("service"),
            tuple(n.text or "" for n in m.findall("numbers/monitor")),
        )
        for m in found
    ]
    assert read == [(e.region, e.type.word, "all", e.numbers) for e in listed]


@given(facts(xml_texts))
def test_xml_is_what_xmltodict_writes(given_facts):
    listed = entries(given_facts)
    incidents = [
        {
            "region": e.region.region,
            "region_code": e.region.region_code,
            "type": e.type.word,
            "service": "all",
            "numbers": {"monitor": list(e.numbers)},
        }
        for e in listed
    ]
    document = {"api": {"status": "200", "message": "OK", "data": {"incidents": {"monitor": incidents}}}}
    assert to_xml(listed).decode() == xmltodict.unparse(document).replace("\n", "", 1)


@pytest.mark.parametrize("encode", [to_json, to_xml])
def test_no_bytes_but_utf8_whatever_the_text(encode):
    every = "".join(map(chr, [*range(0x20), 0x7F, 0x85, 0x2028, 0xD800, 0xDFFF, 0xFFFE, 0xFFFF, 0x10FFFF]))
    encode(entries([(Region(every, every), Type.CRITICAL, every)])).decode("utf-8")
