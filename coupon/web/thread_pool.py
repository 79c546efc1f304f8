"""The threads of a web process: as many as the setting says work, and more of them wait for outcomes.

A request with ``Prefer: wait`` that only a worker can settle holds its thread for seconds. Another thread works in its
place meanwhile. So those who wait hold up nobody else.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, nullcontext
from queue import SimpleQueue
from typing import Any

WAITING_MAX, WAITING_MAX_ELSEWHERE = 500, 8
"""The most requests of a process that wait at a time: on this pool, and on the threads of another server. There each
takes a thread from other requests."""


class ThreadPool(Executor):
    """Starts a thread for each piece of work, up to ``threads``. They end with the process."""

    of_process: "ThreadPool | None" = None
    """The pool that serves this process's requests."""

    def __init__(self, threads: int) -> None:
        self._work = SimpleQueue[Callable[[], None] | None]()
        self._lock = threading.Lock()
        self._number, self._limit = 0, threads

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
        self._start()
        return future

    @property
    def backlog(self) -> int:
        """About how much work waits for a thread."""
        return self._work.qsize()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - of Executor
        """Each thread ends once there is no work for it. Nobody waits for that."""
        with self._lock:
            self._limit, number = 0, self._number
        for _ in range(number):
            self._work.put(None)

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """In the context another thread works in place of the calling one."""
        with self._lock:
            self._limit += 1
        self._start()
        try:
            yield
        finally:
            with self._lock:
                self._limit -= 1
            self._work.put(None)

    def _start(self) -> None:
        """Start a thread, if there may be one more."""
        with self._lock:
            if self._number >= self._limit:
                return
            self._number += 1
        threading.Thread(target=self._run, name="web", daemon=True).start()

    def _run(self) -> None:
        while True:
            work = self._work.get()
            if work is not None:
                work()
                del work  # or its request would live until the next one
                continue
            with self._lock:
                if self._number > self._limit:
                    self._number -= 1
                    return


class Waiting:
    """The requests of a process that wait for an outcome."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.number = 0

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
        try:
            with nullcontext() if pool is None else pool.replaced():
                yield True
        finally:
            with self._lock:
                self.number -= 1
