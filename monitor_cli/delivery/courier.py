"""What each request goes through: its template is judged, its name looked up, the addresses judged, then it is signed
and sent, and its answer comes back. The one way out for callbacks; it knows neither the database nor what an answer
means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from monitor_cli.config import Settings
from monitor_cli.delivery.jobs import Job, Part
from monitor_cli.delivery.slots import Lanes
from monitor_cli.errors import MonitorError
from monitor_cli.outbound import signing
from monitor_cli.outbound.addresses import Policy
from monitor_cli.outbound.resolver import Resolver, ResolverFailed, judged_addresses
from monitor_cli.outbound.transfer import Answer
from monitor_cli.outbound.transport import Outgoing, Transport, allow_open_files
from monitor_cli.outbound.url import judge_target

OTHER_FILES = 128  # open files that are no requests
KEPT_OPEN = 8  # connections for each slot: turns go round the hosts, and dialling anew costs more than a request


@dataclass(slots=True, eq=False)
class Flight:
    """One request of a job, from the look-up of its name to its answer. `started` is monotonic; `sent` are the headers
    that were added to the request's own."""

    job: Job
    part: Part
    started: float
    addresses: Future[list[str]] | None = None
    sent: tuple[tuple[str, str], ...] = ()


class Courier:
    """Requests on their way. `start` takes one; `wait` gives what came back. `clock` is monotonic, `wall` unix time;
    `slowed` is told whose requests enter the slow lane (1) and leave it (-1)."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        slowed: Callable[[Flight, int], None] = lambda _flight, _more: None,
    ) -> None:
        self._deadline = settings.total_timeout
        self._clock, self._wall = clock, wall
        self._policy = Policy(settings.allow_networks, settings.deny_networks)
        wanted = settings.concurrency + settings.slow_lane
        kept = KEPT_OPEN * settings.concurrency
        files = allow_open_files(wanted + kept + OTHER_FILES) - OTHER_FILES
        slow = min(settings.slow_lane, max(1, files - settings.concurrency))
        pool = min(kept, max(1, files - settings.concurrency - slow))
        self._transport = Transport(self._policy, settings.connect_timeout, settings.ca_file or None, pool)
        self._lanes = Lanes(settings.concurrency, slow=slow, clock=clock, slowed=slowed)
        self._resolver = Resolver(wake=self._transport.wake)
        self._resolving: list[Flight] = []
        self._back: list[tuple[Flight, Answer | None]] = []

    def __len__(self) -> int:
        """How many were started and did not come back from `wait` yet."""
        return len(self._lanes) + len(self._back)

    @property
    def free(self) -> int:
        """How many can be started now."""
        return self._lanes.free

    def start(self, job: Job, part: Part) -> None:
        """Send one request of a job, unless its `start_before` has passed by the time its name is known."""
        flight, target = Flight(job, part, self._clock()), part.request.to
        self._lanes.enter(flight)
        try:
            judge_target(target, self._policy)
        except MonitorError as error:
            self._not_sent(flight, error.message)
            return
        if not target.address:
            flight.addresses = self._resolver.resolve(target.host, target.port, job.claimed.callback.account_id)
            if not flight.addresses.done():
                self._resolving.append(flight)
                return
        self._send(flight)

    def wait(self, seconds: float) -> list[tuple[Flight, Answer | None]]:
        """Drive what is on its way until something came back, `wake` was called or `seconds` have passed. None for an
        answer: it was too late to start."""
        for flight, answer in self._transport.wait(0.0 if self._back else seconds):
            self._come_back(flight, answer)
        self._send_resolved()
        self._lanes.move_slow()
        back, self._back = self._back, []
        return back

    def wake(self) -> None:
        """Make `wait` return at once. Safe in threads and signal handlers."""
        self._transport.wake()

    def close(self) -> None:
        self._resolver.close()
        self._transport.close()

    # --- on the way ---------------------------------------------------------------------------------------------------

    def _send_resolved(self) -> None:
        if not self._resolving:
            return
        waiting, self._resolving = self._resolving, []
        for flight in waiting:
            assert flight.addresses is not None
            if not flight.addresses.done():
                if self._clock() - flight.started < self._deadline:
                    self._resolving.append(flight)
                    continue
                self._resolver.give_up(flight.part.request.to.host, flight.addresses)
            self._send(flight)

    def _send(self, flight: Flight) -> None:
        try:
            outgoing = self._outgoing(flight, self._addresses(flight))
        except ResolverFailed as error:
            self._not_sent(flight, error.message, local="resolver")
            return
        except MonitorError as error:
            self._not_sent(flight, error.message)
            return
        if self._clock() >= flight.job.start_before:
            self._come_back(flight, None)
            return
        self._transport.start(flight, outgoing)

    def _addresses(self, flight: Flight) -> Sequence[str]:
        if flight.addresses is None:  # the URL has the address itself, which `start` has judged
            return ()
        return judged_addresses(flight.part.request.to, flight.addresses.result(), self._policy)

    def _outgoing(self, flight: Flight, addresses: Sequence[str]) -> Outgoing:
        request, secrets = flight.part.request, flight.job.claimed.callback.secrets
        flight.sent = signing.headers(secrets, flight.part.webhook_id, int(self._wall()), request.signed)
        _, url, _, body, headers, target = request
        return Outgoing(url, headers, body, target, addresses, flight.started + self._deadline, flight.sent)

    def _not_sent(self, flight: Flight, reason: str, local: str | None = None) -> None:
        """The customer's configuration does not let it be sent, or a fault of ours (`local`): nothing arrived."""
        duration = int((self._clock() - flight.started) * 1000)
        self._come_back(flight, Answer(None, reason, b"", None, duration, arrived=False, local=local))

    def _come_back(self, flight: Flight, answer: Answer | None) -> None:
        self._lanes.leave(flight)
        self._back.append((flight, answer))
