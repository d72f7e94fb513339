"""Who may have how many requests at once, so that a slow customer delays no other.

At most 4 per (account, host and port) and 64 per host and port; turns go round the accounts, and none of them takes
the last free slots; a request that takes over a second leaves the fast slots for a slow lane.
"""

from __future__ import annotations

import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from zlib import crc32

from monitor_cli.store.due import Candidate

PER_ACCOUNT = 4
PER_DESTINATION = 64
SLOW_AFTER_SECONDS = 1.0
# Where many slots are nearly used up, so long a wait beside what answers usually take is a wait for nothing.
EARLY_TIMES, EARLY_SECONDS, EARLY_SLOTS, EARLY_ANSWERS = 5, 0.25, 32, 64
NAMED = 8  # an account that holds so many is left out of the next look; fewer are not worth naming
_FOREIGN = 200  # pairs left to other processes that are kept in mind


class Full(NamedTuple):
    """What can take no more: (account, destination) pairs, destinations, and accounts everywhere."""

    pairs: list[tuple[int, str]]
    destinations: list[str]
    accounts: list[int]


class Shares:
    """What is reserved per destination, per account there and per account at all, by process `number` of `processes`,
    which has `fast` slots and `slow` ones. Used by two threads.

    Of either kind an account holds no more than it leaves free: alone at most half, two of them a third each, so that
    whoever comes next finds room. One is always granted."""

    def __init__(
        self,
        processes: int = 1,
        number: int = 0,
        *,
        fast: int = 256,
        slow: int = 2048,
        shuffle: Callable[[list[Any]], None] = lambda mixed: mixed.sort(key=lambda _: random.random()),
    ) -> None:
        self._processes, self._number = processes, number
        self._lock = threading.Lock()
        self._shuffle = shuffle
        self._pairs: dict[tuple[int, str], int] = {}
        self._destinations: dict[str, int] = {}
        self._quick: dict[int, int] = {}  # by account, what is not in the slow lane
        self._slowed: dict[int, int] = {}
        self._quick_free, self._slow_free = fast, slow  # below 0 for what waits for a slot
        self._foreign: set[tuple[int, str]] = set()  # pairs of which other processes have all
        self._denied = False

    @property
    def part(self) -> tuple[int, int]:
        """How many processes there are, and which of them this is."""
        return self._processes, self._number

    def full(self) -> Full:
        """Whom a look for work may leave out."""
        least, least_there = PER_ACCOUNT // self._processes, PER_DESTINATION // self._processes  # no part is smaller
        with self._lock:
            pairs = [pair for pair, n in self._pairs.items() if n >= least and n >= self._part(PER_ACCOUNT, *pair)]
            places = [
                name
                for name, n in self._destinations.items()
                if n >= least_there and n >= self._part(PER_DESTINATION, name)
            ]
            accounts = {a for held in (self._quick, self._slowed) for a, n in held.items() if n >= NAMED}
            return Full([*pairs, *self._foreign], places, [a for a in accounts if not self._has_room(a)])

    def lacking(self) -> bool:
        """Whether something may be due that could not be had for want of a share."""
        return self._denied or any(self.full())

    def choose(self, candidates: Iterable[Candidate], most: int) -> list[Candidate]:
        """Reserve shares for at most `most` of the candidates, one account after the other. In random order within an
        account, so that several workers do not all reach for the same rows."""
        by_account: OrderedDict[int, list[Candidate]] = OrderedDict()
        mixed = list(candidates)
        self._shuffle(mixed)
        for candidate in mixed:
            by_account.setdefault(candidate.account_id, []).append(candidate)
        chosen: list[Candidate] = []
        with self._lock:
            self._denied = False
            while by_account and len(chosen) < most:
                for account_id in list(by_account):
                    if not self._take_one(by_account[account_id], chosen):
                        del by_account[account_id]
                    if len(chosen) >= most:
                        break
        return chosen

    def release(self, account_id: int, destination: str) -> None:
        with self._lock:
            _less(self._pairs, (account_id, destination))
            _less(self._destinations, destination)
            _less(self._quick, account_id)
            self._quick_free += 1

    def slowed(self, account_id: int, more: int) -> None:
        """A request of the account has left the fast slots for the slow lane (1), or has left that (-1)."""
        with self._lock:
            self._slowed[account_id] = self._slowed.get(account_id, 0) + more
            self._quick[account_id] = self._quick.get(account_id, 0) - more
            self._slow_free -= more
            self._quick_free += more
            for held in (self._slowed, self._quick):
                if not held[account_id]:
                    del held[account_id]

    def _take_one(self, queue: list[Candidate], chosen: list[Candidate]) -> bool:
        while queue and self._has_room(queue[-1].account_id):
            candidate = queue.pop()
            _, account_id, destination = candidate
            pair = (account_id, destination)
            limit, held = self._part(PER_ACCOUNT, account_id, destination), self._pairs.get(pair, 0)
            there = self._destinations.get(destination, 0)
            if not limit:
                self._leave_to_others(pair)
            elif held < limit and there < self._part(PER_DESTINATION, destination):
                self._pairs[pair] = held + 1
                self._destinations[destination] = there + 1
                self._quick[account_id] = self._quick.get(account_id, 0) + 1
                self._quick_free -= 1
                chosen.append(candidate)
                return True
        self._denied = self._denied or bool(queue)
        return False

    def _has_room(self, account_id: int) -> bool:
        quick, slow = self._quick.get(account_id, 0), self._slowed.get(account_id, 0)
        return (not quick or quick <= self._quick_free) and (not slow or slow <= self._slow_free)

    # --- the parts of several processes ------------------------------------------------------------------------------

    def _part(self, limit: int, *what: int | str) -> int:
        """This process's part of a limit on something. All parts together are the limit, also where it has fewer than
        there are processes: who gets none of it differs from one to the next."""
        if limit % self._processes == 0:
            return limit // self._processes
        name = " ".join(map(str, what))
        place = (self._number + crc32(name.encode("utf-8", "replace"))) % self._processes
        return (limit + place) // self._processes

    def _leave_to_others(self, pair: tuple[int, str]) -> None:
        if len(self._foreign) >= _FOREIGN:
            self._foreign.clear()
        self._foreign.add(pair)


class Lanes:
    """The fast slots and the slow lane. Keys stand for requests in flight; `clock` is monotonic seconds; `slowed` is
    told who enters the slow lane (1) and leaves it (-1)."""

    def __init__(
        self,
        fast: int,
        slow: int,
        clock: Callable[[], float],
        slowed: Callable[[Any, int], None] = lambda _key, _more: None,
    ) -> None:
        self.fast_limit, self.slow_limit, self._clock = fast, slow, clock
        self._moved = slowed
        self._usual = 0.0  # seconds that a request stays in a fast slot, the newest counting most
        self._left = 0  # how many of the newest count
        self._fast: OrderedDict[Any, float] = OrderedDict()
        self._slow: set[Any] = set()

    def __len__(self) -> int:
        return len(self._fast) + len(self._slow)

    @property
    def free(self) -> int:
        """Fast slots that are free now."""
        return self.fast_limit - len(self._fast)

    def enter(self, key: Any) -> None:
        self._fast[key] = self._clock()

    def leave(self, key: Any) -> None:
        entered = self._fast.pop(key, None)
        if entered is not None:
            if self._left < EARLY_ANSWERS:
                self._left += 1
            self._usual += (self._clock() - entered - self._usual) / self._left
        elif key in self._slow:
            self._slow.remove(key)
            self._moved(key, -1)

    def move_slow(self) -> None:
        """Move what has waited for over a second to the slow lane, as far as that has room; earlier where slots are
        short and others are answered much sooner."""
        late = self._clock() - self._patience()
        while self._fast and len(self._slow) < self.slow_limit:
            key = next(iter(self._fast))
            if self._fast[key] > late:
                return
            del self._fast[key]
            self._slow.add(key)
            self._moved(key, 1)

    def _patience(self) -> float:
        short = self.fast_limit >= EARLY_SLOTS and self.free < self.fast_limit // 4
        if not short or self._left < EARLY_ANSWERS:
            return SLOW_AFTER_SECONDS
        return min(SLOW_AFTER_SECONDS, max(EARLY_SECONDS, EARLY_TIMES * self._usual))


def _less(counter: dict[Any, int], key: Any) -> None:
    left = counter.pop(key, 0) - 1
    if left > 0:
        counter[key] = left
