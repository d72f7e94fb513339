"""Changes of a fault run on several nodes, made as a platform's hosts make them: incident-sync runs, each on one node,
read a status page; another program sets flags."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, select

from monitor_cli import schema
from monitor_cli.db import Database
from tests.fault.scene import Scene
from tests.fault.syncer import Syncer
from tests.fault.workers import environment
from tests.support.cli import SCRIPT

WORDS = {"operational": "operational", "warning": "partial_outage", "critical": "major_outage"}
RUN_SECONDS = 60  # no run may take longer


@dataclass(frozen=True)
class SyncRun:
    """How a run of incident-sync on a node went; `place` names the node, the times are unix time."""

    place: str
    started: float
    ended: float
    code: int
    said: str


class Publisher(Syncer):
    """Writes the page, and has incident-sync run on a node that is up (`up` names those), sometimes on two at once;
    again, as cron would, until the database has what the page says. Its own looks go by `causal`, the same databases
    by URLs whose reads see what was committed at any node."""

    AT_ONCE = (1, 4, 8, 16)  # since a run takes its time
    FOREIGN = 0.15

    def __init__(
        self,
        databases: Mapping[str, URL],
        causal: Mapping[str, URL],
        up: Callable[[], Sequence[str]],
        scene: Scene,
        pace: float,
        rng: random.Random,
        directory: Path,
    ) -> None:
        self._urls = databases
        self._stores = {place: Database(url) for place, url in causal.items()}
        super().__init__(next(iter(self._stores.values())), scene, pace, rng)
        self._up, self._directory = up, directory
        self.runs: list[SyncRun] = []

    def _step(self) -> None:
        self._database = self._stores[self._rng.choice(self._up())]
        super()._step()

    def _carry_out(self, new: dict[int, str], foreign: bool) -> tuple[float, float]:
        if foreign:
            return super()._carry_out(new, foreign)
        page = self._page({**self._types, **new})
        begun = time.time()
        while True:
            up = self._up()
            self._run_at(self._rng.sample(up, 2 if len(up) > 1 and self._rng.random() < 0.2 else 1), page)
            if self._has(new):
                return begun, time.time()
            time.sleep(0.2)

    def _page(self, types: Mapping[int, str]) -> Path:
        components = [
            {"id": f"tag-{server}", "name": f"server {server}", "status": WORDS[kind], "group": False}
            for server, kind in types.items()
        ]
        page = self._directory / "page.json"
        page.write_text(json.dumps({"page": {"id": "page", "name": "The page"}, "components": components}), "utf-8")
        return page

    def _run_at(self, places: Sequence[str], page: Path) -> None:
        started = time.time()
        processes = [
            subprocess.Popen(
                [str(SCRIPT), "incident-sync", "--provider", "statuspage", "--file", str(page)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=self._directory,
                env={
                    **environment(self._directory),
                    "MONITOR_DATABASE_URL": self._urls[place].render_as_string(hide_password=False),
                },
            )
            for place in places
        ]
        for place, process in zip(places, processes, strict=True):
            try:
                said, _ = process.communicate(timeout=RUN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                said, _ = process.communicate()
            self.runs.append(SyncRun(place, started, time.time(), process.returncode, said))

    def _has(self, types: Mapping[int, str]) -> bool:
        m = schema.monitor.c
        self._database = self._stores[self._rng.choice(self._up())]
        found = self._patiently(lambda conn: conn.execute(select(m.id, m.final_status).where(m.id.in_(types))).all())
        return {row.id: row.final_status for row in found} == types
