"""Awaited commands that a web process applies itself, and what it leaves to the worker."""

import pytest

from backends.store.memory import MemoryStore
from coupon.acceptance.awaited import Awaited, AwaitedCommands
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import Kind, transition
from tests.coupons import a_command, a_coupon

COUPON = a_coupon()
ISSUE = a_command(Kind.ISSUE, "i")
USE = a_command(Kind.USE, "u", "i", 2)


@pytest.fixture
def store():
    store = MemoryStore()
    store.create()
    store.save_many([COUPON])
    return store


class Gathered:
    """A group of those that were there before, and the one that leads."""

    def __init__(self, serve, *others):
        self._serve, self._others = serve, others

    def do(self, work, deadline, begin_by=None, patience=None):
        self._serve([work, *self._others], deadline)


def test_it_is_in_the_store_at_once(store):
    coupon = AwaitedCommands(store).apply(ISSUE)
    assert coupon._replace(ahead=0) == transition(COUPON, ISSUE)
    assert store.get_many([COUPON.code]) == {COUPON.code: coupon._replace(revision=2)}


def test_the_commands_of_a_group_are_applied_in_their_order_by_one_write(store):
    first = Awaited(ISSUE)
    coupon = AwaitedCommands(store, lambda serve: Gathered(serve, first)).apply(USE)
    assert (coupon.version, coupon.ahead) == (3, 2)
    assert first.coupon == coupon
    assert store.get_many([COUPON.code]) == {COUPON.code: coupon._replace(revision=2)}


def test_a_conflict_is_decided_again(store, monkeypatch):
    save = store.save_many

    def after_another(coupons):
        monkeypatch.setattr(store, "save_many", save)
        save([transition(COUPON, a_command(Kind.ISSUE, "rival"))._replace(revision=2)])
        return save(coupons)

    monkeypatch.setattr(store, "save_many", after_another)
    coupon = AwaitedCommands(store).apply(ISSUE)
    assert [entry.operation for entry in coupon.history] == ["birth", "rival"]
    assert coupon.rejections == ()


def test_a_coupon_that_is_at_hand_is_read_only_after_a_conflict(store, monkeypatch):
    reads, read = [], store.get_many
    monkeypatch.setattr(store, "get_many", lambda codes: reads.append(set(codes)) or read(codes))
    assert AwaitedCommands(store).apply(ISSUE, COUPON).version == 2
    assert reads == []
    coupon = AwaitedCommands(store).apply(USE, transition(COUPON, ISSUE))  # the store has another revision by now
    assert (coupon.version, reads) == (3, [{COUPON.code}])


def test_without_a_predecessor_nothing_is_written(store):
    assert AwaitedCommands(store).apply(USE) == COUPON
    assert store.get_many([COUPON.code]) == {COUPON.code: COUPON}


def test_without_the_store_it_is_left_to_the_worker(store, monkeypatch):
    def away(_codes):
        raise BackendUnavailable("away")

    monkeypatch.setattr(store, "get_many", away)
    assert AwaitedCommands(store).apply(ISSUE) is None


def test_a_coupon_that_is_not_there_is_not_known(store):
    assert AwaitedCommands(store).apply(ISSUE._replace(code="9" * 19)) is None
