"""When what was applied is indexed and committed."""

import threading

import pytest

from coupon.domain.model import Kind
from coupon.ports.queue import Message
from coupon.worker.checkpoint import FLUSH_INTERVAL_MS
from coupon.worker.worker import IDLE_S, POLL_S
from tests.worker.conftest import a_world
from tests.worker.faults import away


@pytest.fixture
def steps(world):
    """A step of the worker, with a command to apply, after so many milliseconds; what was left uncommitted then."""
    codes = iter(world.coupons(20))

    def step(after_ms=0):
        world.now += after_ms
        world.change(Kind.ISSUE, next(codes), "ann")
        assert world.worker.run_once(poll_s=0) == 1
        return world.lag()

    return step


def test_batches_share_a_commit_until_one_is_due(world, steps):
    assert [steps(), steps(100), steps(FLUSH_INTERVAL_MS - 101), steps(1), steps()] == [1, 2, 3, 0, 1]


def test_what_was_accepted_without_the_cache_is_committed_at_once(world):
    """Its caller waits for that."""
    (code,) = world.coupons()
    world.rival(Kind.ISSUE, code, "ann", reserved=False)
    assert world.worker.run_once(poll_s=0) == 1
    assert world.lag() == 0


def test_what_was_done_is_committed_when_nothing_more_comes(world, steps):
    assert steps() == 1
    assert world.worker.run_once(poll_s=0) == 0
    assert world.lag() == 0


def test_batches_share_what_search_is_told(world, steps, monkeypatch):
    sizes = []
    monkeypatch.setattr(world.backends.search, "index_many", lambda coupons: sizes.append(len(list(coupons))))
    for _ in range(3):
        steps()
    assert sizes == []
    world.drain()
    assert sizes == [3]


def test_a_batch_that_is_enough_for_search_is_told_at_once_and_committed_later(environ):
    for world in a_world({**environ, "COUPON_BATCH_MAX": "5"}):
        codes = world.coupons(5)
        for code in codes:
            world.change(Kind.ISSUE, code, "ann")
        applied = 0
        while applied < 5:
            assert world.documents("ann") == []
            applied += world.worker.run_once(poll_s=0)
        assert sorted(world.documents("ann")) == sorted(codes)
        assert world.lag() == 5
        world.drain()
        assert world.lag() == 0


def test_a_poll_waits_no_longer_than_until_a_flush_is_due(world, steps):
    def asked_s():
        world.worker.run_once()
        return world.consumer.timeout_s

    steps()
    assert [asked_s(), asked_s()] == [IDLE_S, POLL_S]
    steps()
    world.now += FLUSH_INTERVAL_MS - 30
    assert asked_s() == 0.03


def test_a_clock_that_is_put_back_makes_no_commit_late(world, steps):
    assert steps() == 1
    world.skew = -3_600_000
    assert steps(FLUSH_INTERVAL_MS) == 0


def test_who_is_told_to_stop_commits_what_was_done(world, steps):
    steps()
    stop = threading.Event()
    stop.set()
    world.worker.run(stop)
    assert world.lag() == 0


def test_who_cannot_commit_when_told_to_stop_leaves_all_the_same_and_it_is_done_again(world, steps):
    steps()
    world.consumer.before["commit"] = [away()]
    stop = threading.Event()
    stop.set()
    world.worker.run(stop)
    assert world.lag() == 1
    world.drain(world.a_worker())
    assert world.lag() == 0


@pytest.mark.logs_error("dead letter")
def test_search_is_not_asked_about_nothing(world, steps, monkeypatch):
    sizes = []
    monkeypatch.setattr(world.backends.search, "index_many", lambda coupons: sizes.append(len(list(coupons))))
    world.backends.queue.publish([Message("commands", "k", b"{")])
    world.drain()
    assert sizes == []
