"""The play: all is well, an outage, recovery, and a flap that nobody needs to hear of."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from monitor_cli.demo.stage import Stage, fresh_database
from monitor_cli.demo.web import Customer, Received, StatusPage
from monitor_cli.errors import MonitorError

_SERVERS = {
    "voice-karnataka": ("Voice Karnataka", 7, "karnataka", "KA-IN"),
    "voice-kerala": ("Voice Kerala", 8, "kerala", "KL-IN"),
}
_DOWN = "voice-karnataka"
_CALLBACKS = {  # each form that a request can have
    "get": ["--url", "/get?status={response}"],
    "form": ["--url", "/form", "--payload", "token=t0p&data={response}"],
    "json": ["--url", "/json", "--raw-json", "--payload", '{"text": "{message}", "data": {response}}'],
}


def play(database: Path, say: Callable[[str], None], head: Callable[[str], None]) -> None:
    """Play it on a new database file; `say` prints a line, `head` a heading. Raises MonitorError where anything does
    not go as it should."""
    page = StatusPage({tag: name for tag, (name, *_) in _SERVERS.items()})
    customer = Customer()
    with fresh_database(database), page.open() as page_url, customer.open() as customer_url:
        settings = {
            "MONITOR_DATABASE_URL": f"sqlite:///{database}",
            "MONITOR_INCIDENT_URL": page_url,
            "MONITOR_ALLOW_NETWORKS": "127.0.0.1/32",
            "MONITOR_RETRY_SCHEDULE": "1,2",
        }
        _Play(Stage(say, settings), head, page, customer).all(settings, customer_url)


class _Play:
    def __init__(self, stage: Stage, head: Callable[[str], None], page: StatusPage, customer: Customer) -> None:
        self._stage, self._head, self._page, self._customer = stage, head, page, customer
        self._key = ""

    def all(self, settings: dict[str, str], customer_url: str) -> None:
        self._set_up(settings, customer_url)
        self._well()
        self._outage()
        self._polling()
        self._recovery()
        self._flap()

    def _set_up(self, settings: dict[str, str], customer_url: str) -> None:
        run = self._stage.command
        self._head("A status page, a customer's server (both on this machine), two voice servers, two customers")
        for name, value in settings.items():
            self._stage.say(f"export {name}={shlex.quote(value)}")
        run("db", "upgrade", say_output=False)
        for number, (tag, (name, channel, region, code)) in enumerate(_SERVERS.items(), 1):
            run(
                *("server", "add", "--server-id", str(number), "--name", name, "--server-tag", tag),
                *("--channel-id", str(channel), "--region", region, "--region-code", code),
                say_output=False,
            )
        self._key = run("account", "add", "acme").out.split()[-1]
        run("account", "add", "globex", say_output=False)
        run("number", "add", "acme", "--channel", "7", "+918012340001")
        run("number", "add", "globex", "--channel", "8", "+914712340002")
        for account, name in [*(("acme", name) for name in _CALLBACKS), ("globex", "get")]:
            url, *more = _CALLBACKS[name][1:]
            self._add_callback(account, name, f"{customer_url}/{account}{url}", more)

    def _add_callback(self, account: str, name: str, url: str, more: list[str]) -> None:
        fixed = ["--account", account, "--title", "Status", "--name", name]
        self._stage.command("callback", "add", *fixed, "--url", url, *more, say_output=False)

    def _well(self) -> None:
        self._head("All is well: cron's two commands have nothing to say, and nobody is called")
        self._stage.command("incident-sync")
        self._stage.command("callback-run")
        self._expect([])

    def _outage(self) -> None:
        self._head("Karnataka goes down. acme is told, in each form; its JSON server fails first and is tried again")
        self._page.statuses[_DOWN] = "major_outage"
        self._page.incident = "Calls fail in Karnataka"
        self._customer.fail_once("/acme/json")
        self._stage.command("-v", "incident-sync")
        self._stage.command("server", "list", "--type", "critical")
        self._stage.command("callback-run")
        answers = [("/acme/form", 200), ("/acme/get", 200), ("/acme/json", 200), ("/acme/json", 500)]
        got = self._expect(answers)
        ids = {one.webhook_id for one in got if one.target == "/acme/json"}
        if len(ids) != 1:
            raise MonitorError(f"the demo stops: the retry had another webhook-id: {sorted(map(str, ids))}")

    def _polling(self) -> None:
        self._head("Who polls instead reads the same from the incident API")
        with self._stage.server("serve-api", "--port", "0", "--workers", "1") as url:
            for form in ("json", "xml"):
                self._get(urlsplit(url).netloc, f"/v1/?method=monitor&format={form}", b"critical")

    def _recovery(self) -> None:
        self._head("Karnataka is well again")
        self._page.statuses[_DOWN] = "operational"
        self._stage.command("-v", "incident-sync")
        self._stage.command("callback-run")
        self._expect([("/acme/form", 200), ("/acme/get", 200), ("/acme/json", 200)])

    def _flap(self) -> None:
        self._head("It goes down and comes back before anybody was called: not worth a call")
        self._page.statuses[_DOWN] = "major_outage"
        self._stage.command("-v", "incident-sync")
        self._page.statuses[_DOWN] = "operational"
        self._stage.command("-v", "incident-sync")
        outcome = self._stage.command("-v", "callback-run")
        self._expect([])
        if outcome.err.count("change.dropped") != len(_CALLBACKS):
            raise MonitorError("the demo stops: the flap was not dropped for each callback")

    # --- the pieces -----------------------------------------------------------------------------------------------

    def _expect(self, answers: list[tuple[str, int]]) -> list[Received]:
        """Show what the customer got; it has to be this, in whatever order."""
        got = self._customer.take()
        for one in got:
            self._show(one)
        found = sorted((one.target.partition("?")[0], one.answered) for one in got)
        if found != sorted(answers):
            raise MonitorError(f"the demo stops: customers should have got {answers} and got {found}")
        return got

    def _show(self, one: Received) -> None:
        facts = [f"webhook-id: {one.webhook_id}", f"answered {one.answered}"]
        if one.content_type:
            facts.insert(0, one.content_type)
        self._stage.say(f"  > {one.method} {one.target}   [{', '.join(facts)}]")
        if one.body:
            self._stage.say(f"    {one.body}")

    def _get(self, netloc: str, target: str, expected: bytes) -> None:
        self._stage.say(f"GET {target}   [x-api-key: {self._key[:6]}...]")
        try:
            connection = HTTPConnection(netloc, timeout=30)
            connection.request("GET", target, headers={"x-api-key": self._key})
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
        except (OSError, HTTPException) as error:
            raise MonitorError(f"the demo stops: the incident API did not answer: {error}") from None
        self._stage.say(f"  {body.decode('utf-8', 'replace')}")
        if answer.status != 200 or expected not in body:
            raise MonitorError(f"the demo stops: the incident API answered {answer.status} without the outage")
