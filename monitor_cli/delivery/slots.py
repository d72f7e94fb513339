"""Who may have how many requests at once, so that a slow customer delays no other.

At most 4 per (account, host and port) and 64 per host and port; turns go round the accounts; a request that takes over
a second leaves the fast slots for a slow lane.
"""

from __future__ import annotations

import random
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, MutableSequence, Sequence
from typing import Any

from monitor_cli.store.claims import Candidate

PER_ACCOUNT = 4
PER_DESTINATION = 64
SLOW_AFTER_SECONDS = 1.0


class Shares:
    """What is reserved per destination, and per account there, by one of `processes`. Used by two threads."""

    def __init__(self, processes: int = 1, shuffle: Callable[[MutableSequence[Any]], None] = random.shuffle) -> None:
        self._per_account = max(1, PER_ACCOUNT // processes)
        self._per_destination = max(1, PER_DESTINATION // processes)
        self._lock = threading.Lock()
        self._shuffle = shuffle
        self._accounts: Counter[tuple[int, str]] = Counter()
        self._destinations: Counter[str] = Counter()

    def full(self) -> tuple[list[tuple[int, str]], list[str]]:
        """The (account, destination) pairs and the destinations that can take no more."""
        with self._lock:
            pairs = [pair for pair, count in self._accounts.items() if count >= self._per_account]
            return pairs, [name for name, count in self._destinations.items() if count >= self._per_destination]

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
            while by_account and len(chosen) < most:
                for account_id in list(by_account):
                    if not self._take_one(by_account[account_id], chosen):
                        del by_account[account_id]
                    if len(chosen) >= most:
                        break
        return chosen

    def release(self, account_id: int, destination: str) -> None:
        with self._lock:
            _less(self._accounts, (account_id, destination))
            _less(self._destinations, destination)

    def _take_one(self, queue: list[Candidate], chosen: list[Candidate]) -> bool:
        while queue:
            candidate = queue.pop()
            pair = (candidate.account_id, candidate.destination)
            there = self._destinations[candidate.destination]
            if self._accounts[pair] < self._per_account and there < self._per_destination:
                self._accounts[pair] += 1
                self._destinations[candidate.destination] += 1
                chosen.append(candidate)
                return True
        return False


class Lanes:
    """The fast slots and the slow lane. Keys stand for requests in flight; `clock` is monotonic seconds."""

    def __init__(self, fast: int, slow: int, clock: Callable[[], float]) -> None:
        self.fast_limit, self.slow_limit, self._clock = fast, slow, clock
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
        if self._fast.pop(key, None) is None:
            self._slow.discard(key)

    def move_slow(self) -> None:
        """Move what has waited for over a second to the slow lane, as far as that has room."""
        late = self._clock() - SLOW_AFTER_SECONDS
        for key, entered in list(self._oldest()):
            if entered > late or len(self._slow) >= self.slow_limit:
                return
            del self._fast[key]
            self._slow.add(key)

    def _oldest(self) -> Sequence[tuple[Any, float]]:
        return list(self._fast.items())[:64]


def _less(counter: Counter[Any], key: Any) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
