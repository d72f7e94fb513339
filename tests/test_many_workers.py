"""Several processes at once on one store: each callback is told exactly once, and never by two at a time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from monitor_cli import schema
from monitor_cli.dialect import now_ms
from tests.support.cli import Cli
from tests.support.http import Answer, Receiver
from tests.support.stores import Store
from tests.support.world import SECRET, World

ENV = {
    "MONITOR_ALLOW_NETWORKS": "127.0.0.0/8",
    "MONITOR_PROCESSES": "1",
    "MONITOR_TOTAL_TIMEOUT": "60",  # on a busy machine the customers, all in this process, may answer late
}
WORKERS = 4
OWED = {"sqlite": 500}  # one writer at a time there; elsewhere:
MANY = 5000


@pytest.fixture
def customers() -> Iterator[list[Receiver]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Receiver()) for _ in range(8)]


def _callbacks(world: World, customers: list[Receiver], count: int) -> None:
    """`count` callbacks of as many accounts, each with a number on channel 1."""
    with world.database.write() as conn:
        accounts = [{"id": i, "name": f"a{i}", "api_key_sha256": f"{i:064x}"} for i in range(1, count + 1)]
        conn.execute(schema.account.insert(), accounts)
        conn.execute(schema.subscription.insert(), [{"account_id": a["id"], "active": 1} for a in accounts])
        numbers = [{"account_id": a["id"], "number": f"+91{a['id']:08d}", "channel_id": 1} for a in accounts]
        conn.execute(schema.number.insert(), numbers)
        now = now_ms(conn)
        common = {"payload": None, "headers": "[]", "raw_json": 1, "active": 1, "failures": 0, "hears_from": 0}
        rows = []
        for account in accounts:
            i = account["id"]
            customer = customers[i % len(customers)]
            rows.append(
                {
                    **common,
                    "id": i,
                    "account_id": i,
                    "title": "A callback",
                    "name": f"callback {i}",
                    "url": customer.url(f"/{i}"),
                    "destination": f"{customer.host}:{customer.port}",
                    "secret": SECRET,
                    "created_at": now,
                    "modified_at": now,
                }
            )
        conn.execute(schema.callback.insert(), rows)


def _what_came(world: World, customers: list[Receiver], path: str) -> str:
    """For whoever reads the failure: what one callback was sent, and what was recorded of it."""
    came = sorted((r for customer in customers for r in customer.to(path)), key=lambda request: request.time)
    requests = [f"{r.time:.3f} connection {r.connection}: {r.header('webhook-id')}" for r in came]
    ours = {row.id: row for row in world.deliveries() if row.callback_id == int(path[1:])}
    attempts = [str(row._mapping) for row in world.attempts() if row.delivery_id in ours]
    return "\n".join([path, *requests, *(str(row._mapping) for row in ours.values()), *attempts])


def test_every_callback_is_told_once(world: World, cli: Cli, database: Store, customers: list[Receiver]) -> None:
    count = OWED.get(database.name, MANY)
    _callbacks(world, customers, count)
    server = world.server(channel=1)
    rng = random.Random(3)
    for customer in customers:  # some answers take their time, so that requests of one callback could meet
        customer.decide(lambda _: Answer(delay=rng.uniform(0.01, 0.3)) if rng.random() < 0.05 else None)
    for kind in ("critical", "operational"):
        for customer in customers:
            customer.clear()
        world.flag(server, kind)
        workers = [cli.start("callback-run", env=ENV) for _ in range(WORKERS)]
        for worker in workers:
            worker.wait().quiet()
        told = Counter(request.path for customer in customers for request in customer.requests)
        assert len(told) == count
        twice = sorted(path for path, count in told.items() if count > 1)
        assert twice == [], f"{len(twice)} were told twice, {_what_came(world, customers, twice[0])}"
        assert {peak for customer in customers for peak in customer.peak.values()} == {1}
    assert not world.owed()
    assert {row.told_type for row in world.owed(all_rows=True)} == {"operational"}
    deliveries = world.deliveries()
    assert len(deliveries) == 2 * count
    assert {row.state for row in deliveries} == {"done"}
    assert Counter(row.delivery_id for row in world.attempts()) == {row.id: 1 for row in deliveries}
    owners = {row.lease_owner for row in deliveries}
    assert len(owners) > 1, "one worker did it all: nothing was shared"
