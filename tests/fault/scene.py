"""Whom a fault run is about: servers on channels in regions, accounts with numbers there, and their callbacks.

A number says on which channel it is, so that a request says of which unit it tells: see `told_in`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from monitor_cli import schema
from monitor_cli.db import Database
from monitor_cli.dialect import now_ms
from tests.support.world import SECRET

Unit = tuple[int, str]  # channel, region code

CHANNELS, REGIONS = 50, 7
CHANNELS_OF_ACCOUNT, CALLBACKS_OF_ACCOUNT = 3, 5

# The plugin's forms: (query of the URL, payload, raw JSON). One shows {timestamp}: it must be the same in a repetition.
FORMS: list[tuple[str, str | None, bool]] = [
    ("", None, True),
    ("", "data={response}&at={timestamp}", False),
    ("?data={response}", None, False),
    ("", '{"data": {response}, "at": "{timestamp}", "id": "{event_id}"}', True),
    ("", "data={response}", True),
]


@dataclass(frozen=True)
class Scene:
    """`units` gives each server (by its row's id) its unit; `callbacks` each key of a URL the callback's id, and
    `owners` the channels of its account."""

    units: dict[int, Unit]
    callbacks: dict[int, int]
    owners: dict[int, tuple[int, ...]]

    @property
    def concerned(self) -> float:
        """How many callbacks a change of one channel concerns, on average."""
        return sum(len(channels) for channels in self.owners.values()) / CHANNELS


def build(database: Database, ports: Sequence[int], callbacks: int, rng: random.Random) -> Scene:
    """Write the rows. The callbacks' URLs are on the ports, in turn."""
    units = _servers(database, rng)
    accounts = callbacks // CALLBACKS_OF_ACCOUNT
    channels = {a: tuple(rng.sample(range(1, CHANNELS + 1), CHANNELS_OF_ACCOUNT)) for a in range(1, accounts + 1)}
    keys = [(key, (key - 1) // CALLBACKS_OF_ACCOUNT + 1) for key in range(1, accounts * CALLBACKS_OF_ACCOUNT + 1)]
    with database.write() as conn:
        conn.execute(
            schema.account.insert(),
            [{"id": a, "name": f"account {a}", "api_key_sha256": f"{a:064x}"} for a in channels],
        )
        conn.execute(schema.subscription.insert(), [{"account_id": a, "active": 1} for a in channels])
        conn.execute(
            schema.number.insert(),
            [
                {"account_id": a, "number": f"+{channel:04d}{a:06d}{i}", "channel_id": channel}
                for a, held in channels.items()
                for channel in held
                for i in range(1 + (a + channel) % 2)
            ],
        )
        now = now_ms(conn)
        rows = [_callback(key, account, ports[key % len(ports)], now) for key, account in keys]
        conn.execute(schema.callback.insert(), rows)
    return Scene(units, {key: key for key, _ in keys}, {key: channels[account] for key, account in keys})


def told_in(payload: str) -> Iterator[tuple[Unit, str]]:
    """Of what a request tells: each unit and its type."""
    if payload.startswith("{"):
        sent = json.loads(payload)
        document = sent if "incidents" in sent["data"] else sent["data"]
    else:
        document = json.loads(parse_qs(payload.rpartition("?")[2])["data"][0])
    units = {
        ((int(number[1:5]), entry["region_code"]), entry["type"])
        for entry in document["data"]["incidents"]
        for number in entry["numbers"]
    }
    yield from sorted(units)


def _servers(database: Database, rng: random.Random) -> dict[int, Unit]:
    units: dict[int, Unit] = {}
    for channel in range(1, CHANNELS + 1):
        for i in range(rng.choice((1, 1, 2, 3))):
            region = (channel + (i if channel % 10 == 0 else 0)) % REGIONS  # some channels are in several regions
            units[len(units) + 1] = (channel, f"R{region}-IN")
    rows = [
        {
            "id": server,
            "server_id": server,
            "name": f"server {server}",
            "server_tag": f"tag-{server}",
            "channel_id": channel,
            "region": f"region {code}",
            "region_code": code,
        }
        for server, (channel, code) in units.items()
    ]
    with database.write() as conn:
        conn.execute(schema.monitor.insert(), rows)
    return units


def _callback(key: int, account: int, port: int, now: int) -> dict[str, object]:
    query, payload, raw_json = FORMS[key % len(FORMS)]
    return {
        "id": key,
        "account_id": account,
        "title": "A callback",
        "name": f"callback {key}",
        "url": f"http://127.0.0.1:{port}/{key}{query}",
        "destination": f"127.0.0.1:{port}",
        "payload": payload,
        "headers": "[]",
        "raw_json": int(raw_json),
        "active": 1,
        "failures": 0,
        "hears_from": 0,
        "secret": SECRET,
        "created_at": now,
        "modified_at": now,
    }
