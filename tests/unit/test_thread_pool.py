"""The threads of a web process, of which some wait."""

import threading

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


def test_who_waits_is_replaced_and_afterwards_no_more_work_than_before(pool):
    waits, works = Held(), Held()

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
    for _ in range(100):  # of what is in the queue, the signs that somebody is too many come first
        pool.submit(int, "8").result(SOON)
    futures = [pool.submit(works) for _ in range(10)]
    for _ in range(2):
        assert works.begun.acquire(timeout=SOON)
    works.go.set()
    for future in futures:
        future.result(SOON)
    assert works.most == 2


def test_threads_are_used_again(pool):
    """Each has connections of its own, which live as long as it does."""
    seen = set()

    def wait():
        with pool.replaced():
            seen.add(threading.current_thread())

    for _ in range(50):
        pool.submit(wait).result(SOON)
    assert len(seen) <= 4


def test_a_thread_that_cannot_be_started_is_not_counted(pool, monkeypatch):
    pool.submit(int, "1").result(SOON)

    def refused(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        for _ in range(5):
            assert pool.submit(int, "2").result(SOON) == 2
    held = Held()
    futures = [pool.submit(held) for _ in range(2)]
    for _ in range(2):
        assert held.begun.acquire(timeout=SOON)
    held.go.set()
    for future in futures:
        future.result(SOON)


def test_calls_that_hang_leave_threads_for_others(pool):
    waiting, hang = Waiting(threads=2), Held()

    def call():
        with waiting.shortly():
            hang()

    futures = [pool.submit(call) for _ in range(10)]
    for _ in range(10):
        assert hang.begun.acquire(timeout=SOON)
    assert pool.submit(int, "7").result(SOON) == 7
    hang.go.set()
    for future in futures:
        future.result(SOON)
    assert waiting.number == 0


@pytest.mark.parametrize("has_pool", [True, False])
def test_only_so_many_wait_at_a_time(pool, monkeypatch, has_pool):
    if not has_pool:
        monkeypatch.setattr(ThreadPool, "of_process", None)
    waiting, entered = Waiting(threads=2), []
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
