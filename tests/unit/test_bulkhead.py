"""How many threads wait for a backend that hangs, and for how long."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from backends.store.memory import MemoryStore
from backends.testing.timing import takes_less_than
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.ports.store import Store
from coupon.web.bulkhead import PAUSE_MAX_MS, SLOW_MS, UNGUARDED, Bulkhead, guarded
from tests.coupons import a_coupon

LIMIT, PATIENCE_MS = 3, 10_000


class Timer:
    def __init__(self):
        self.ms = 1_000

    def __call__(self):
        return self.ms


class Hanging(MemoryStore):
    """Answers when it is let, fails when it is told to."""

    def __init__(self):
        super().__init__()
        self.let, self.entered, self.error = threading.Event(), threading.Semaphore(0), None
        self.asked = 0

    def get_many(self, codes):
        self.asked += 1
        self.entered.release()
        assert self.let.wait(30)
        if self.error is not None:
            raise self.error
        return super().get_many(codes)


@pytest.fixture
def timer():
    return Timer()


@pytest.fixture
def store():
    store = Hanging()
    yield store
    store.let.set()


@pytest.fixture
def bounded(store, timer):
    return guarded(Store, store, Bulkhead("store", LIMIT, PATIENCE_MS, timer))


@pytest.fixture
def pool(store):
    with ThreadPoolExecutor(20) as pool:
        yield pool
        store.let.set()


def hang(pool, bounded, store, number=LIMIT):
    """So many calls, all of them inside."""
    calls = [pool.submit(bounded.get_many, ["A"]) for _ in range(number)]
    for _ in calls:
        assert store.entered.acquire(timeout=30)
    return calls


def refused(bounded):
    """Why it is refused at once."""
    with pytest.raises(BackendUnavailable) as refusal:
        bounded.get_many(["A"])
    return str(refusal.value)


def fails(bounded, store, timer, after_ms, error=None):
    """A call that fails after that time."""
    store.error = error or BackendUnavailable("no answer")

    class Late(threading.Event):
        def wait(self, timeout=None):
            timer.ms += after_ms
            return True

    kept, store.let = store.let, Late()
    with pytest.raises(type(store.error)):
        bounded.get_many(["A"])
    store.let, store.error = kept, None


def test_all_that_can_take_long_is_guarded(bounded, store):
    assert {
        name for name in Store.__abstractmethods__ if name in vars(bounded)
    } == Store.__abstractmethods__ - UNGUARDED
    store.let.set()
    bounded.save_many([a_coupon()])
    assert bounded.get_many(["A" * 19]) == store.get_many(["A" * 19]) != {}
    bounded.ping()
    bounded.close()
    with pytest.raises(BackendUnavailable):
        store.ping()


def test_who_comes_beyond_the_limit_is_refused_at_once_when_others_have_waited_long(pool, bounded, store, timer):
    calls = hang(pool, bounded, store)
    timer.ms += PATIENCE_MS
    takes_less_than(1, lambda: refused(bounded))
    assert "3 threads wait for the store already" in refused(bounded)
    assert store.asked == LIMIT
    store.let.set()
    assert [call.result() for call in calls] == [{}] * LIMIT
    assert bounded.get_many(["A"]) == {}


def test_who_comes_beyond_the_limit_waits_for_those_who_will_soon_be_done(pool, bounded, store):
    calls = hang(pool, bounded, store)
    calls += [pool.submit(bounded.get_many, ["A"]) for _ in range(10)]
    assert not store.entered.acquire(timeout=0.1)
    store.let.set()
    assert [call.result() for call in calls] == [{}] * (LIMIT + 10)


def test_who_waits_for_a_place_does_so_no_longer_than_the_patience(pool, store):
    bounded = guarded(Store, store, Bulkhead("store", LIMIT, 100))
    hang(pool, bounded, store)
    takes_less_than(2, lambda: refused(bounded))


def test_one_that_hangs_is_left_alone_and_tried_by_one_at_a_time(pool, bounded, store, timer):
    fails(bounded, store, timer, SLOW_MS)
    asked = store.asked
    for _ in range(3):
        assert "hangs" in refused(bounded)
    assert store.asked == asked
    timer.ms += PAUSE_MAX_MS
    [trial] = hang(pool, bounded, store, 1)
    assert "hangs" in refused(bounded)
    assert store.asked == asked + 1
    store.let.set()
    assert trial.result() == {}
    assert bounded.get_many(["A"]) == {}


def test_a_trial_that_fails_is_made_again_within_two_seconds_however_often_it_failed(bounded, store, timer):
    for _ in range(8):
        fails(bounded, store, timer, SLOW_MS)
        refused(bounded)
        timer.ms += PAUSE_MAX_MS
    store.let.set()
    assert bounded.get_many(["A"]) == {}


def test_several_that_find_it_hanging_at_once_open_the_circuit_once(pool, bounded, store, timer):
    calls = hang(pool, bounded, store)
    timer.ms += SLOW_MS
    store.error = BackendUnavailable("no answer")
    store.let.set()
    assert all(isinstance(call.exception(), BackendUnavailable) for call in calls)
    refused(bounded)
    store.error = None
    timer.ms += 500  # the first pause, and not the fourth
    assert bounded.get_many(["A"]) == {}


def test_what_fails_at_once_is_asked_each_time(bounded, store, timer):
    for _ in range(5):
        fails(bounded, store, timer, SLOW_MS - 1)
    store.let.set()
    assert bounded.get_many(["A"]) == {}


def test_a_call_that_failed_late_while_another_was_answered_is_no_sign_that_it_hangs(pool, bounded, store, timer):
    [late] = hang(pool, bounded, store, 1)
    timer.ms += 10
    kept, store.let = store.let, threading.Event()
    store.let.set()
    assert bounded.get_many(["A"]) == {}
    timer.ms += SLOW_MS
    store.error = BackendUnavailable("no answer")
    kept.set()
    assert isinstance(late.exception(), BackendUnavailable)
    store.error = None
    assert bounded.get_many(["A"]) == {}


def test_a_refusal_is_an_answer(bounded, store, timer):
    fails(bounded, store, timer, SLOW_MS, BackendRejected("too large"))
    store.let.set()
    assert bounded.get_many(["A"]) == {}
