"""The customers of a fault run: one process, several ports, answers at random (seeded), and a record of each request.

    python -m tests.fault.receiver --ports 8 --seed 1 --records FILE

prints its ports as a JSON list; SIGTERM ends it, and the records are then in FILE, a JSON document a line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

SLOWEST_SECONDS = 1.0


@dataclass
class Record:
    """A request that came whole. `key` names the callback; `status` is what was answered (None: nothing, the
    connection was broken or the sender went away); `arrived` and `ended` are unix time; `sender` is its address."""

    key: int
    webhook_id: str
    payload: str  # the body, of a GET the target
    arrived: float
    ended: float
    status: int | None
    sender: str


class Fate(NamedTuple):
    """What becomes of a request: an answer after a delay, or (None) the connection is broken."""

    status: int | None
    delay: float


class Customers:
    """`rng` decides about each request; `records` grows."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.records: list[Record] = []

    def _fate(self) -> Fate:
        dice = self._rng.random()
        status = 200 if dice < 0.87 else 500 if dice < 0.92 else 504 if dice < 0.94 else None
        return Fate(status, self._rng.uniform(0, SLOWEST_SECONDS) if self._rng.random() < 0.25 else 0.0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender = writer.get_extra_info("peername")[0]
        try:
            while await self._one(reader, writer, sender):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # a worker that was killed, or is done
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sender: str) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        target = lines[0].split()[1]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        key = int(target.partition("?")[0].rpartition("/")[2])
        payload = body.decode() if body else target
        arrived, fate = time.time(), self._fate()
        status = fate.status if await self._still_there(reader, fate.delay) else None
        if status is None:
            writer.transport.abort()
        else:
            writer.write(b"HTTP/1.1 %d Answer\r\nContent-Length: 2\r\n\r\nok" % status)
        self.records.append(Record(key, headers["webhook-id"], payload, arrived, time.time(), status, sender))
        return status is not None

    @staticmethod
    async def _still_there(reader: asyncio.StreamReader, delay: float) -> bool:
        """Wait; whether the sender is there after it."""
        if delay:
            try:
                sent = await asyncio.wait_for(reader.read(1), delay)
            except TimeoutError:
                return True
            assert not sent, "a second request came before the answer to the first"
            return False
        return True


async def _serve(customers: Customers, ports: int) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    servers = [await asyncio.start_server(customers.serve, "127.0.0.1", 0, backlog=1024) for _ in range(ports)]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    await ended.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ports", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--records", type=Path, required=True)
    options = parser.parse_args()
    customers = Customers(random.Random(f"{options.seed}-customers"))
    asyncio.run(_serve(customers, options.ports))
    with options.records.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(record)) + "\n" for record in customers.records)


if __name__ == "__main__":
    main()
