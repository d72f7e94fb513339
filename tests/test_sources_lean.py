"""Large documents are read without what no provider looks at: the components are the same, and so are the errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor_cli import providers
from monitor_cli.errors import SourceError
from monitor_cli.providers import PROVIDERS
from monitor_cli.sources.decoding import decode
from monitor_cli.sources.lean import LARGE, lean
from tests.support.pages import PAGES


def outcome(name: str, documents: list[Any]) -> Any:
    """What reading gives: the provider and its components, or the error's words."""
    try:
        found = providers.read_documents(name, documents)
    except SourceError as error:
        return error.message
    return found.provider, list(found.components), type(found.components)


def same(body: bytes) -> bool:
    """Nobody sees a difference; gives whether it was read leanly."""
    small = lean(body)
    if small is None:
        return False
    whole = json.loads(body)
    assert small.keys() == whole.keys()
    for provider in PROVIDERS.values():
        assert provider.recognises(small) == provider.recognises(whole)
    for name in ("auto", *PROVIDERS):
        assert outcome(name, [small]) == outcome(name, [whole])
    return True


@pytest.mark.parametrize("name", PAGES)
def test_our_own_documents_are_read_the_same(name: str) -> None:
    for document in PAGES[name].documents:
        listed = isinstance(document, dict) and isinstance(document.get("components"), list)
        assert same(json.dumps(document).encode()) is listed


def test_captured_documents_are_read_the_same(samples: Path) -> None:
    lists = [same(file.read_bytes()) for file in sorted(samples.rglob("*.json"))]
    assert sum(lists) >= 5


def entry(**more: Any) -> dict[str, Any]:
    return {"id": "a", "name": " Gate\tway ", "status": "major_outage", "description": "x", **more}


@pytest.mark.parametrize(
    "document",
    [
        {"components": [entry()]},
        {"components": [entry(children=[entry(id="b"), entry(id="c", children=[])])], "page": {"status": "UP"}},
        {"components": [entry(id=7)], "page": None, "incidents": []},
        {"components": [entry(id="01J0000000000000000000000A")], "unheard_of": {"x": [1.5, None]}},
        {"components": [entry(), {"id": "b"}], "page": {"id": "p"}},
        {"components": [entry(), {"status": ""}], "page": {"id": "p"}, "status": {"indicator": "none"}},
        {"components": [entry(name=None), entry(id="é\ud7ff", status="ungewöhnlich \x00")], "page": {"id": "p"}},
        {"components": [], "page": {"id": "p"}, "incidents": [{"name": "Down", "components": [{"id": "a"}]}]},
    ],
)
def test_odd_documents_are_read_the_same(document: Any) -> None:
    assert same(json.dumps(document, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"components": [{"id": "a", "description": "\xff", "status": "operational"}]}',
        b'{"components": [{"id": "a", "rank": NaN, "status": "operational"}]}',
        b'{"components": [{"id": "a", "status": "operational"}, 7]}',
        b'{"components": null, "page": {}}',
        b'{"components": [{"id": "a", "status": "operational"}',
        b'{"components": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
        b'\xef\xbb\xbf{"components": []}',
        '{"components": []}'.encode("utf-16"),
        b"[]",
    ],
)
def test_what_is_odd_is_left_to_the_usual_reading(body: bytes) -> None:
    assert lean(body) is None


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6)
entries = st.dictionaries(st.sampled_from(["id", "name", "status", "children", "other"]), plain, max_size=5)
tops = st.sampled_from(["page", "status", "incidents", "summary", "other"])


@given(st.lists(entries | plain, max_size=4), st.dictionaries(tops, plain | st.dictionaries(tops, plain), max_size=3))
@settings(deadline=None)
def test_any_list_of_components_is_read_the_same(components: list[Any], beside: dict[str, Any]) -> None:
    same(json.dumps({**beside, "components": components}).encode())


def test_a_large_document_has_no_more_than_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [entry(id=str(n), description="x" * 100) for n in range(LARGE // 100)]
    body = json.dumps({"page": {"id": "p"}, "components": many}).encode()
    found = decode(body, "here")
    assert found["components"][5] == {"id": "5", "name": " Gate\tway ", "status": "major_outage"}
    assert outcome("auto", [found]) == outcome("auto", [json.loads(body)])
    with pytest.raises(SourceError, match="here: the answer is not JSON, or not all of it"):
        decode(body[:-1], "here")
