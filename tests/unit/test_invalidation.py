"""Taking out of the cache what the store proves wrong, whatever the cache does meanwhile."""

from dataclasses import dataclass

import pytest

from backends.cache.memory import MemoryCache
from backends.queue.memory import MemoryQueue
from backends.store.memory import MemoryStore
from coupon.invalidation import Invalidation
from coupon.model import Kind, transition
from coupon.ports.backend import BackendUnavailable
from coupon.reservations import CONFIRMED, cache_key
from coupon.topics import INVALIDATE
from coupon.wire import encode_coupon
from tests.coupons import a_command, a_coupon
from tests.worker.faults import Faulty, away

ONE, OTHER = "A" * 19, "B" * 19


@dataclass
class Place:
    """Two coupons that ann holds, and bob in the cache."""

    cache: Faulty
    queue: MemoryQueue
    invalidation: Invalidation
    now: int = 0

    def holds(self) -> list[str]:
        return [code for code in (ONE, OTHER) if self.cache.get(cache_key(code)) is not None]

    def owed(self) -> list[bytes]:
        return [delivery.value for delivery in self.queue.browse(INVALIDATE)]


@pytest.fixture
def place():
    cache, store, queue = Faulty(MemoryCache()), MemoryStore(), MemoryQueue()
    queue.create([INVALIDATE])
    for code in (ONE, OTHER):
        store.save_many([a_coupon(code)])
        store.save_many([transition(a_coupon(code), a_command(Kind.ISSUE, "i", code=code))._replace(revision=2)])
        lost = transition(a_coupon(code), a_command(Kind.ISSUE, "j", code=code, user_id="bob"))
        cache.put(cache_key(code), CONFIRMED + encode_coupon(lost), 100)
    place = Place(cache, queue, Invalidation(cache, store, queue, lambda: place.now))
    return place


def test_what_is_wrong_is_removed(place):
    place.invalidation.invalidate([ONE])
    assert place.holds() == [OTHER]
    assert place.owed() == []


def test_an_entry_that_changes_while_it_is_looked_at_is_deleted(place):
    """Who lost confirms the reservation in this very moment."""
    place.cache.remove = lambda *_: False
    place.invalidation.invalidate([ONE])
    assert place.holds() == [OTHER]


def test_an_entry_that_cannot_be_read_is_deleted_and_holds_no_other_up(place):
    place.cache.before["get"] = [away()]
    place.invalidation.invalidate([ONE, OTHER])
    assert place.holds() == []
    assert place.owed() == []


def test_what_cannot_be_removed_is_owed_and_the_cache_left_alone_until_it_answers(place):
    place.cache.down = True
    place.invalidation.invalidate([ONE, OTHER])
    place.cache.calls.clear()
    place.invalidation.invalidate([ONE])
    assert place.cache.calls == []
    assert place.owed() == [b'["%s","%s"]' % (ONE.encode(), OTHER.encode()), b'["%s"]' % ONE.encode()]
    place.cache.down = False
    assert place.invalidation.is_away()
    place.now = 500
    assert not place.invalidation.is_away()


def test_a_clock_that_is_set_back_keeps_nobody_waiting(place):
    place.now = 3_600_000
    place.cache.down = True
    place.invalidation.invalidate([ONE])
    place.cache.down = False
    place.now = 0
    assert not place.invalidation.is_away()


def test_a_topic_that_is_yet_to_be_made_is_waited_for(place):
    """What was carried out is not to be taken for what can never be."""
    invalidation = Invalidation(place.cache, MemoryStore(), MemoryQueue(), lambda: 0)
    place.cache.down = True
    with pytest.raises(BackendUnavailable, match="coupon init"):
        invalidation.invalidate([ONE])
