"""The threads of a web process: as many as the setting says work, and more of them wait for outcomes.

A request with ``Prefer: wait`` that only a worker can settle holds its thread for seconds, and so does a command whose
group hangs. Another thread works in its place meanwhile. So those who wait hold up nobody else.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, nullcontext
from queue import SimpleQueue
from typing import Any

import structlog

from coupon.runtime.metrics import REQUESTS_WAITING
from coupon.web.bulkhead import SHARE_FOR_COMMANDS

WAITING_MAX, WAITING_MAX_ELSEWHERE = 500, 8
"""The most requests of a process that wait at a time: on this pool, and on the threads of another server. There each
takes a thread from other requests."""
log = structlog.get_logger("coupon.web")


class ThreadPool(Executor):
    """Starts a thread for each piece of work, up to ``threads``, which work at a time. More of them wait, or are spare.

    Threads end with the process only: each has connections of its own, which a new thread would open again. So
    ``shutdown`` does nothing."""

    of_process: "ThreadPool | None" = None
    """The pool that serves this process's requests."""

    def __init__(self, threads: int) -> None:
        self._work = SimpleQueue[Callable[[], None] | None]()
        self._lock = threading.Lock()
        self._number, self._limit, self._spare = 0, threads, 0
        self._needed = SimpleQueue[None]()

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> "Future[Any]":
        future: Future[Any] = Future()

        def work() -> None:
            try:
                result = function(*arguments, **options)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self._work.put(work)
        self._add()
        return future

    @property
    def backlog(self) -> int:
        """About how much work waits for a thread."""
        return self._work.qsize()

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """In the context another thread works in place of the calling one."""
        with self._lock:
            self._limit += 1
        try:
            self._add()
            yield
        finally:
            with self._lock:
                self._limit -= 1
            self._work.put(None)

    def _add(self) -> None:
        """Let one more thread work, if there may be one: a spare one, or a new one."""
        with self._lock:
            if self._number >= self._limit:
                return
            self._number += 1
            is_spare = self._spare > 0
            self._spare -= is_spare
        if is_spare:
            self._needed.put(None)
            return
        try:
            threading.Thread(target=self._run, name="web", daemon=True).start()
        except RuntimeError as error:  # the system has no more of them
            with self._lock:
                self._number -= 1
                if not self._number:
                    raise
            log.warning("no more threads", error=str(error), threads=self._number)

    def _run(self) -> None:
        while True:
            work = self._work.get()
            if work is not None:
                work()
                del work  # or its request would live until the next one
                continue
            with self._lock:
                if self._number <= self._limit:
                    continue
                self._number -= 1
                self._spare += 1
            self._needed.get()


class Waiting:
    """The requests of a process that wait for an outcome. ``threads`` are those that work."""

    def __init__(self, threads: int) -> None:
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(max(1, int(threads * SHARE_FOR_COMMANDS)))
        self.number = 0

    @contextmanager
    def shortly(self) -> Iterator[None]:
        """For what takes one call of a backend. Beyond a share of the threads the calling one is replaced meanwhile: so
        a backend that hangs does not occupy them all."""
        if not self._places.acquire(blocking=False):
            with self.begin():
                yield
            return
        try:
            yield
        finally:
            self._places.release()

    @contextmanager
    def begin(self) -> Iterator[bool]:
        """False where too many wait already. In the context the calling thread is replaced, where there is a pool."""
        pool = ThreadPool.of_process
        with self._lock:
            may_wait = self.number < (WAITING_MAX_ELSEWHERE if pool is None else WAITING_MAX)
            self.number += may_wait
        if not may_wait:
            yield False
            return
        REQUESTS_WAITING.add(1, "outcome")
        try:
            with nullcontext() if pool is None else pool.replaced():
                yield True
        finally:
            REQUESTS_WAITING.add(-1, "outcome")
            with self._lock:
                self.number -= 1
