"""Import files: whatever is wrong with one is told by line, all of it at once."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor_cli import csvfile
from monitor_cli.errors import MonitorError

COLUMNS = ("a", "b")


def bad_words(data: bytes) -> str:
    _, bad = csvfile.read(data, "f.csv", COLUMNS, ("c",))
    with pytest.raises(MonitorError) as caught:
        bad.check()
    assert caught.value.exit_code == 1
    return caught.value.message


def test_lines_are_numbered_by_where_they_begin() -> None:
    data = b'\xef\xbb\xbfa,b\r\n1,2\r\n\r\n"x\r\ny",3\r\n4,5'
    lines, bad = csvfile.read(data, "f.csv", COLUMNS)
    bad.check()
    assert lines == [
        (2, {"a": "1", "b": "2"}),
        (4, {"a": "x\r\ny", "b": "3"}),
        (6, {"a": "4", "b": "5"}),
    ]


def test_columns_may_stand_in_any_order() -> None:
    lines, _ = csvfile.read(b"b,c,a\n1,2,3\n", "f.csv", COLUMNS, ("c",))
    assert lines == [(2, {"b": "1", "c": "2", "a": "3"})]


@pytest.mark.parametrize(
    ("data", "words", "hint"),
    [
        (b"", "line 1: there is no header", "a,b"),
        (b"\n\n", "line 1: there is no header", "a,b"),
        (b"a\n1\n", "line 1: the column b is missing", "a,b"),
        (b"c\n1\n", "line 1: the columns a, b are missing", "a,b"),
        (b"a,b,a\n", "line 1: the column a is there twice", ""),
        (b"a,b,bb\n", "line 1: unknown column 'bb'", "did you mean 'b'?"),
        (b"a,b,\n", "line 1: unknown column ''", "a,b"),
        (b"\na;b\n", "line 2: the columns are not separated by commas", "a,b"),
        ("a,b\n".encode("utf-16"), "line 1: it is not UTF-8 text", ""),
    ],
)
def test_a_header_that_does_not_fit(data: bytes, words: str, hint: str) -> None:
    with pytest.raises(MonitorError) as caught:
        csvfile.read(data, "f.csv", COLUMNS, ("c",))
    assert caught.value.message == f"f.csv: {words}"
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"1\n", "line 2: it has 1 value, the header 2"),
        (b"1,2\n1,2,3\n", "line 3: it has 3 values, the header 2"),
        (b"\n\n \n", "line 4: it has 1 value, the header 2"),
        (b"1,\xff\n", "line 2: it is not UTF-8 text"),
        (b"1,\xed\xa0\x80\n", "line 2: it is not UTF-8 text"),
        (b'1,2\n1,"x\n\n', "line 3: a quote is opened and not closed before the end of the file"),
        (b'1,"x"y\n', "line 2: a quoted value goes on after its closing quote"),
        (b"1," + b"x" * 200_000 + b"\n", "line 2: a value has more than 131072 characters"),
    ],
)
def test_a_bad_line_is_named(body: bytes, words: str) -> None:
    message = bad_words(b"a,b\n" + body)
    assert message.startswith("f.csv: 1 bad line, nothing was imported\n  " + words)


def test_all_bad_lines_are_told_and_good_ones_are_read() -> None:
    data = b'a,b\n1\n1,2\n"x"y,2\n3,4\n1,2,3\n'
    lines, _ = csvfile.read(data, "f.csv", COLUMNS)
    assert [line.number for line in lines] == [3, 5]
    assert [line.split(":")[0].strip() for line in bad_words(data).splitlines()[1:]] == ["line 2", "line 4", "line 6"]


def test_of_many_bad_lines_the_first_are_told_and_the_others_counted() -> None:
    message = bad_words(b"a,b\n" + b"1\n" * 1000)
    assert message.splitlines()[0] == "f.csv: 1000 bad lines, nothing was imported"
    assert message.splitlines()[-1] == "  and 980 more bad lines"
    assert len(message.splitlines()) == 22


@given(st.lists(st.tuples(st.text('ab,"\n\r ;é\x00😀'), st.text('1,"\n\r')), min_size=1))
def test_what_csv_writes_is_read_as_it_was(rows: list[tuple[str, str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([COLUMNS, *rows])
    lines, bad = csvfile.read(text.getvalue().encode(), "f.csv", COLUMNS)
    bad.check()
    assert [tuple(line.cells.values()) for line in lines] == rows
