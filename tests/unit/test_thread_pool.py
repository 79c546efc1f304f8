"""The threads of a web process, of which some wait."""

import threading
import time

import pytest

from coupon.web.thread_pool import WAITING_MAX, WAITING_MAX_ELSEWHERE, ThreadPool, Waiting

SOON = 10.0


@pytest.fixture
def pool(monkeypatch):
    pool = ThreadPool(2)
    monkeypatch.setattr(ThreadPool, "of_process", pool)
    yield pool
    pool.shutdown()


class Held:
    """Work that goes on until it is let go. ``most`` is how many threads ever did it at once."""

    def __init__(self):
        self.go, self.begun = threading.Event(), threading.Semaphore(0)
        self._lock, self._now, self.most = threading.Lock(), 0, 0

    def __call__(self):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self.begun.release()
        assert self.go.wait(SOON)
        with self._lock:
            self._now -= 1


def test_work_is_done_and_its_result_or_error_is_told(pool):
    assert pool.submit(divmod, 7, 2).result(SOON) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 7, 0).result(SOON)
    assert pool.submit(int, "ff", base=16).result(SOON) == 255


def test_as_many_threads_work_as_there_are(pool):
    held = Held()
    futures = [pool.submit(held) for _ in range(5)]
    for _ in range(2):
        assert held.begun.acquire(timeout=SOON)
    assert pool.backlog == 3
    held.go.set()
    for future in futures:
        future.result(SOON)
    assert held.most == 2


def web_threads():
    return sum(thread.name == "web" for thread in threading.enumerate())


def test_who_waits_is_replaced_and_afterwards_there_are_as_many_as_before(pool):
    before, waits = web_threads(), Held()

    def wait():
        with pool.replaced():
            waits()

    waiting = [pool.submit(wait) for _ in range(20)]
    for _ in range(20):
        assert waits.begun.acquire(timeout=SOON)
    assert pool.submit(int, "7").result(SOON) == 7
    waits.go.set()
    for future in waiting:
        future.result(SOON)
    deadline = time.monotonic() + SOON
    while web_threads() > before + 2:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert pool.submit(int, "8").result(SOON) == 8


@pytest.mark.parametrize("has_pool", [True, False])
def test_only_so_many_wait_at_a_time(pool, monkeypatch, has_pool):
    if not has_pool:
        monkeypatch.setattr(ThreadPool, "of_process", None)
    waiting, entered = Waiting(), []
    for _ in range(WAITING_MAX if has_pool else WAITING_MAX_ELSEWHERE):
        entered.append(waiting.begin())
        assert entered[-1].__enter__()
    with waiting.begin() as may_wait:
        assert not may_wait
    entered.pop().__exit__(None, None, None)
    with waiting.begin() as may_wait:
        assert may_wait
    for each in entered:
        each.__exit__(None, None, None)
    assert waiting.number == 0
