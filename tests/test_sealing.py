"""Secrets at rest: what is written under a key, what reads it, and what happens where the key does not fit."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from monitor_cli import schema
from monitor_cli.config.secretkey import decode_keys
from monitor_cli.sealing import PLAIN, PREFIX, Keyring, Unreadable
from monitor_cli.store import sealed
from tests.support.cli import Cli
from tests.support.http import Receiver
from tests.support.stores import Store
from tests.support.world import SECRET, World
from tests.test_admin_rotate import verifies

KEY, OTHER = (base64.b64encode(bytes(range(start, start + 32))).decode() for start in (1, 101))
RAW, RAW_OTHER = decode_keys(KEY)[0], decode_keys(OTHER)[0]
LOCAL = {"MONITOR_ALLOW_NETWORKS": "127.0.0.0/8", "MONITOR_MAX_SECONDS": "20"}  # it ends when nothing is due
SEALED = {**LOCAL, "MONITOR_SECRET_KEY": KEY}
SHORT = {**SEALED, "MONITOR_MAX_SECONDS": "3"}  # what cannot be read is due again and again
WRITTEN = Keyring([RAW], random_bytes=lambda size: b"n" * size).seal("s", "p")
HEADER = ("X-Token", "the-value-of-a-header")


@pytest.fixture
def acme(world: World) -> int:
    account = world.account("acme")
    world.number(account, "+911", channel=1)
    world.server(channel=1)
    return account


def add(cli: Cli, url: str, env: dict[str, str], *options: str) -> tuple[int, str]:
    """A callback as a person adds it: its id and its secret."""
    fields = ("--account", "acme", "--title", "t", "--name", "n", "--url", url, "--raw-json", "--json")
    made = cli.ok("callback", "add", *fields, "--header", ": ".join(HEADER), *options, env=env).json
    return made["id"], made["secret"]


def stored(world: World, callback: int) -> list[str]:
    row = world.callback_row(callback)
    return [row.secret, *([row.old_secret] if row.old_secret else []), *(v for _, v in json.loads(row.headers))]


def change(world: World) -> None:
    world.flag(world.server(channel=1, region=f"r{len(world.changes())}"), "critical")


# --- the form ---------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.text(), st.text())
def test_what_was_sealed_is_read_again_and_nowhere_else(secret: str, place: str) -> None:
    keys = Keyring([RAW])
    written = keys.seal(secret, place)
    assert keys.open(written, place) == secret
    assert written.isascii()
    assert keys.seal(secret, place) != written
    for wrong in (place + " ", place[:-1] if place else "x"):
        with pytest.raises(Unreadable):
            keys.open(written, wrong)


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=95), st.integers(min_value=1, max_value=255))
def test_an_altered_text_is_refused(at: int, change: int) -> None:
    keys = Keyring([RAW])
    written = keys.seal(SECRET, "p")
    start = len(written) - len(written.rpartition(":")[2])
    raw = bytearray(base64.b64decode(written[start:]))
    raw[at % len(raw)] ^= change
    with pytest.raises(Unreadable):
        keys.open(written[:start] + base64.b64encode(raw).decode(), "p")


def test_the_first_key_seals_and_all_of_them_open() -> None:
    old = Keyring([RAW])
    written = old.seal("s", "p")
    both = Keyring([RAW_OTHER, RAW])
    assert (both.open(written, "p"), both.is_current(written), old.is_current(written)) == ("s", False, True)
    assert not old.can_open(both.seal("s", "p"))
    assert (PLAIN.seal("s", "p"), both.open("s", "p")) == ("s", "s")
    assert not both.is_current("s")


@pytest.mark.parametrize(
    ("keys", "stored", "words"),
    [
        (PLAIN, WRITTEN, "secret_key is not set"),
        (Keyring([RAW_OTHER]), WRITTEN, "another key"),
        (Keyring([RAW]), PREFIX + "2:x", "does not know its form"),
        (Keyring([RAW]), WRITTEN[:-40], "altered"),
        (Keyring([RAW]), WRITTEN[:-1], "altered"),
        (Keyring([RAW]), WRITTEN.rpartition(":")[0], "another key|altered"),
        (Keyring([RAW]), PREFIX, "does not know its form"),
    ],
)
def test_what_cannot_be_read_says_why(keys: Keyring, stored: str, words: str) -> None:
    with pytest.raises(Unreadable, match=words) as error:
        keys.open(stored, "p")
    assert error.value.exit_code == 78


def test_a_sealed_text_of_this_version_stays_readable() -> None:
    """Written by 0.1: rows of it are in customers' databases."""
    written = (
        "monitor-sealed:1:841614b5278d69f3:Y4M8Wcz3WewWkJ06DSlpHnyq9s22VHhTUK2Y"
        "dt9UCpxnAIE5M4Az2CUx5e8/TqHHJlx8wHKinSX2/dfoKaaSoIJ+"
    )
    assert Keyring([RAW]).open(written, "callback 7 secret") == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


# --- the setting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("tooshort", "key 1 has 6 bytes"),
        ("correct horse battery staple", "key 1 is not base64"),
        (f"{KEY},c2hvcnQ=", "key 2 has 5 bytes"),
        ("A" * 44, "key 1 is not"),
        (base64.b64encode(b"abcd" * 8).decode(), "key 1 is not random"),
    ],
)
def test_a_key_that_is_none_is_refused_and_not_repeated(make_cli, value: str, words: str) -> None:  # type: ignore[no-untyped-def]
    result = make_cli(None)("config", "check", env={"MONITOR_SECRET_KEY": value})
    assert (result.code, result.out) == (78, "")
    assert words in result.err
    assert value not in result.err


def test_several_keys_a_file_and_a_table_of_the_configuration(make_cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    cli = make_cli(None)
    file = tmp_path / "key"
    file.write_text(f"# the new one\n{OTHER}\n\n{KEY}\n")
    toml = tmp_path / "c.toml"
    toml.write_text(f'secret_key = ["{OTHER}", "{KEY}"]\n')
    assert decode_keys(file.read_text()) == decode_keys(f"{OTHER},{KEY}") == (RAW_OTHER, RAW)
    cli("--config", str(toml), "config", "check").quiet()
    cli("config", "check", env={"MONITOR_SECRET_KEY_FILE": str(file)}).quiet()
    shown = cli.ok("config", "show", "--json", env={"MONITOR_SECRET_KEY": KEY})
    assert shown.json["secret_key"]["value"] == "***"
    assert KEY not in shown.out
    # The environment's file is closer than the configuration's value.
    both = cli.ok("--config", str(toml), "config", "show", "--json", env={"MONITOR_SECRET_KEY_FILE": str(file)}).json
    assert (both["secret_key"]["value"], both["secret_key_file"]["value"]) == ("", str(file))
    for content, words in ((b"# none\n", "holds no key"), (b"\xff", "not UTF-8"), (b"short", "key 1")):
        file.write_bytes(content)
        result = cli("config", "check", env={"MONITOR_SECRET_KEY_FILE": str(file)})
        assert (result.code, words in result.err) == (78, True), result.err
    assert cli("config", "check", env={"MONITOR_SECRET_KEY_FILE": str(tmp_path / "absent")}).code == 78


# --- the tables -------------------------------------------------------------------------------------------------------


def test_a_callback_added_under_a_key_is_told_and_its_secrets_stand_nowhere(
    cli: Cli, world: World, acme: int, receiver: Receiver
) -> None:
    callback, secret = add(cli, receiver.url("/hook"), SEALED)
    assert all(value.startswith(PREFIX) for value in stored(world, callback))
    new = cli.ok("callback", "rotate-secret", str(callback), "--json", env=SEALED).json["secret"]
    cli("callback", "edit", str(callback), "--title", "another", env=SEALED).quiet()
    assert len(stored(world, callback)) == 3
    assert all(value.startswith(PREFIX) for value in stored(world, callback))
    change(world)
    cli("callback-run", env=SEALED).quiet()
    (request,) = receiver.requests
    assert request.header(HEADER[0]) == HEADER[1]
    assert [verifies(one, request) for one in (new, secret)] == [True, True]
    assert HEADER[1] not in cli.ok("callback", "show", str(callback), "--json").out  # and needs no key


def test_plain_rows_are_told_under_a_key_too(cli: Cli, world: World, acme: int, receiver: Receiver) -> None:
    world.callback(acme, receiver.url("/hook"), raw_json=True, headers=[HEADER])
    change(world)
    cli("callback-run", env=SEALED).quiet()
    assert (receiver.requests[0].header(HEADER[0]), verifies(SECRET, receiver.requests[0])) == (HEADER[1], True)


@pytest.mark.parametrize("env", [LOCAL, {**LOCAL, "MONITOR_SECRET_KEY": OTHER}], ids=["missing", "wrong"])
def test_a_key_that_does_not_fit_is_a_local_fault(
    cli: Cli, world: World, acme: int, receiver: Receiver, env: dict[str, str]
) -> None:
    callback, _ = add(cli, receiver.url("/hook"), SEALED)
    change(world)
    for command in (("callback-run",), ("callback-run", "--dry-run"), ("callback", "test", str(callback))):
        result = cli(*command, env=env)
        assert (result.code, f"callback {callback} secret cannot be read" in result.err) == (78, True), result.err
        assert "secret_key" in result.err
    assert (
        cli(
            "callback", "add", "--account", "acme", "--title", "t", "--name", "n", "--url", receiver.url(), env=env
        ).code
        == 78
    )
    assert receiver.requests == []
    assert (world.attempts(), world.callback_row(callback).failures, world.callback_row(callback).active) == ([], 0, 1)
    cli("callback-run", env=SEALED).quiet()
    assert len(receiver.requests) == 1


def test_where_the_key_fits_some_those_are_told(cli: Cli, world: World, acme: int, receiver: Receiver) -> None:
    world.callback(acme, receiver.url("/plain"), raw_json=True)
    under_other, _ = add(cli, receiver.url("/other"), {**LOCAL, "MONITOR_SECRET_KEY": OTHER})
    change(world)
    result = cli("-v", "callback-run", env=SHORT)
    assert result.code == 78
    assert f"callback.unreadable callback={under_other}" in result.err
    assert "network.fault" not in result.err
    assert [request.path for request in receiver.requests] == ["/plain"]
    assert [a.delivery_id for a in world.attempts()] == [
        d.id for d in world.deliveries() if d.callback_id != under_other
    ]
    (waiting,) = world.deliveries(under_other)
    assert (waiting.state, waiting.attempts, waiting.lease_until) == ("open", 0, 0)


def test_a_helper_process_that_cannot_read_is_78_as_well(cli: Cli, world: World, acme: int, receiver: Receiver) -> None:
    world.callback(acme, receiver.url("/plain"), raw_json=True)
    for _ in range(3):
        add(cli, receiver.url("/other"), {**LOCAL, "MONITOR_SECRET_KEY": OTHER})
    change(world)
    result = cli.process("callback-run", env={**SHORT, "MONITOR_PROCESSES": "3"})
    assert (result.code, result.out) == (78, "")
    assert "cannot be read" in result.err
    assert "Traceback" not in result.err


def test_a_text_moved_to_another_callback_or_column_signs_nothing(
    cli: Cli, world: World, acme: int, receiver: Receiver, database: Store
) -> None:
    first, _ = add(cli, receiver.url("/first"), SEALED)
    second, _ = add(cli, receiver.url("/second"), SEALED)
    cli.ok("callback", "rotate-secret", str(second), env=SEALED)
    c = schema.callback
    with database.write() as conn:
        for column in ("secret", "headers"):
            value = getattr(world.callback_row(second), column)
            conn.execute(c.update().where(c.c.id == first).values({column: value}))
        conn.execute(text(f"UPDATE {c.name} SET secret = old_secret WHERE id = {second}"))
    change(world)
    result = cli("callback-run", env=SHORT)
    assert (result.code, receiver.requests) == (78, [])
    assert "altered, or sealed for another place" in result.err


def test_a_customer_cannot_write_what_looks_encrypted(cli: Cli, acme: int) -> None:
    fields = ("--account", "acme", "--title", "t", "--name", "n", "--url", "https://192.0.2.1/", "--header")
    result = cli("callback", "add", *fields, f"X-T: {PREFIX}1:00:eA==", env=LOCAL)
    assert (result.code, "begins as an encrypted one does" in result.err) == (2, True), result.err


def test_a_lost_key_is_got_over(cli: Cli, world: World, acme: int, receiver: Receiver) -> None:
    callback, _ = add(cli, receiver.url("/hook"), {**LOCAL, "MONITOR_SECRET_KEY": OTHER})
    assert cli("callback", "rotate-secret", str(callback), env=SEALED).code == 78
    assert cli("callback", "edit", str(callback), "--title", "x", env=SEALED).code == 78
    new = cli.ok("callback", "rotate-secret", str(callback), "--drop-old", "--json", env=SEALED).json["secret"]
    cli("callback", "edit", str(callback), "--header", ": ".join(HEADER), env=SEALED).quiet()
    change(world)
    cli("callback-run", env=SEALED).quiet()
    assert verifies(new, receiver.requests[0])
    assert world.callback_row(callback).old_secret is None


# --- callback encrypt-secrets -----------------------------------------------------------------------------------------


def test_what_is_plain_or_under_an_old_key_is_encrypted_anew(
    cli: Cli, world: World, acme: int, receiver: Receiver
) -> None:
    plain = world.callback(acme, receiver.url("/plain"), raw_json=True, headers=[HEADER], old_secret=SECRET)
    old, secret = add(cli, receiver.url("/old"), SEALED)
    both = {**LOCAL, "MONITOR_SECRET_KEY": f"{OTHER},{KEY}"}
    before = [world.callback_row(one) for one in (plain, old)]
    counted = {"callbacks": 2, "plain": 1, "old_key": 1, "unreadable": 0}
    assert cli.ok("callback", "encrypt-secrets", "--dry-run", "--json", env=both).json == counted
    assert [world.callback_row(one) for one in (plain, old)] == before
    cli("callback", "encrypt-secrets", env=both).quiet()
    done = {**counted, "plain": 0, "old_key": 0}
    new = {**LOCAL, "MONITOR_SECRET_KEY": OTHER}
    assert cli.ok("callback", "encrypt-secrets", "--json", env=new).json == done
    assert all(Keyring([RAW_OTHER]).is_current(value) for one in (plain, old) for value in stored(world, one))
    assert [world.callback_row(one).modified_at for one in (plain, old)] == [row.modified_at for row in before]
    change(world)
    cli("callback-run", env=new).quiet()
    told = {request.path: request for request in receiver.requests}
    assert verifies(SECRET, told["/plain"])
    assert verifies(secret, told["/old"])
    assert told["/plain"].header(HEADER[0]) == told["/old"].header(HEADER[0]) == HEADER[1]


def test_without_a_key_or_with_one_that_does_not_fit_it_says_so(cli: Cli, world: World, acme: int) -> None:
    unset = cli("callback", "encrypt-secrets")
    assert (unset.code, "neither secret_key" in unset.err) == (78, True)
    add(cli, "https://192.0.2.1/", {"MONITOR_SECRET_KEY": OTHER, "MONITOR_ALLOW_NETWORKS": "192.0.2.0/24"})
    plain = world.callback(acme, "https://customer.test/")
    result = cli("callback", "encrypt-secrets", "--json", env=SEALED)
    assert (result.code, result.json["unreadable"], result.json["plain"]) == (78, 1, 1)
    assert "another key" in result.err
    assert stored(world, plain)[0].startswith(PREFIX)  # the others are done all the same


def test_it_works_in_batches_and_goes_on_where_it_was_stopped(database: Store, world: World, acme: int) -> None:
    ids = [world.callback(acme, "https://customer.test/") for _ in range(7)]
    keys = Keyring([RAW])
    first = database.transact(lambda conn: sealed.reseal(conn, keys, 0, 3))
    assert (first.last, first.seen, first.changed) == (ids[2], 3, 3)
    looked, last = [], 0
    while last is not None:  # from the start again, as the command does
        batch = database.transact(lambda conn, last=last: sealed.reseal(conn, keys, last, 3))  # type: ignore[misc]
        looked.append((batch.seen, batch.changed))
        last = batch.last
    assert looked == [(3, 0), (3, 3), (1, 1), (0, 0)]
