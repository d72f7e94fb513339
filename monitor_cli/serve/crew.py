"""Threads that do the blocking work of an event loop, in the order it came: two at a time, so that one computes while
the other waits for the database; others only help out where both are held up.

More threads at once would not answer more, they fight for the interpreter's lock and all take longer (docs/serving.md
has the figures); but nobody waits behind a slow query for long. For the same reason the loop is not woken for each job
that is done: it hears of it when the next one comes, or a moment later.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable

Job = Callable[[], None]
Done = asyncio.Future[None]

LEADERS = 2  # threads that take jobs as they come
THREADS = 5  # with those that help out
WAITING = 1024  # jobs that may wait
HELD_UP_SECONDS = 0.05  # how long a job may hold up the others


class Crew:
    """Runs jobs, which must not raise; `full` says whether one more would have to wait too long."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._clock = clock
        self._jobs: queue.SimpleQueue[tuple[Job, Done]] = queue.SimpleQueue()
        self._done: deque[Done] = deque()
        self._unsettled = 0
        self._help = threading.Semaphore(0)
        self._began: list[float | None] = [None] * THREADS  # of each thread: when its job began
        self._watching = False
        for number in range(THREADS):
            work = self._lead if number < LEADERS else self._assist
            threading.Thread(target=work, args=(number,), name=f"crew-{number}", daemon=True).start()

    @property
    def full(self) -> bool:
        return self._jobs.qsize() >= WAITING

    def submit(self, job: Job) -> Done:
        """Have a job done. From the loop's thread. What is returned is done some time after the job is."""
        self.settle()
        done = self._loop.create_future()
        self._jobs.put((job, done))
        self._unsettled += 1
        if not self._watching:
            self._watching = True
            self._loop.call_later(HELD_UP_SECONDS, self._watch)
        return done

    def settle(self) -> None:
        """Tell the loop which jobs are done. From its thread."""
        while self._done:
            done = self._done.popleft()
            self._unsettled -= 1
            if not done.done():
                done.set_result(None)

    def _lead(self, number: int) -> None:
        while True:
            self._run(number, *self._jobs.get())

    def _assist(self, number: int) -> None:
        while True:
            self._help.acquire()
            while self._held_up():
                try:
                    job, done = self._jobs.get_nowait()
                except queue.Empty:
                    break
                self._run(number, job, done)

    def _run(self, number: int, job: Job, done: Done) -> None:
        self._began[number] = self._clock()
        try:
            job()
        finally:
            self._done.append(done)
            self._began[number] = None

    def _held_up(self) -> bool:
        """Whether every thread that is at work has been so for too long."""
        late = self._clock() - HELD_UP_SECONDS
        working = [began for began in self._began if began is not None]
        return bool(working) and max(working) <= late

    def _watch(self) -> None:
        """Send help where jobs wait behind one that does not end. Only while there are jobs."""
        self.settle()
        if not self._jobs.empty() and self._held_up():
            self._help.release()
        self._watching = self._unsettled > 0
        if self._watching:
            self._loop.call_later(HELD_UP_SECONDS, self._watch)
