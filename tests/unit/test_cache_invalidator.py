"""Taking out of the cache what the store proves wrong, whatever the cache does meanwhile."""

from dataclasses import dataclass

import pytest

from backends.cache.memory import MemoryCache
from backends.queue.memory import MemoryQueue
from backends.store.memory import MemoryStore
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import Kind, transition
from coupon.domain.topics import INVALIDATE
from coupon.runtime.cache_entries import UNFENCED, Claim, Confirmed, Entries, cache_key
from coupon.worker.cache_invalidator import CacheInvalidator
from tests.coupons import a_command, a_coupon
from tests.worker.faults import Faulty, away

ONE, OTHER = "A" * 19, "B" * 19
CODE_DERIVER = CodeDeriver("a secret for tests only")


@dataclass
class Place:
    """Two coupons that ann holds, and bob in the cache."""

    cache: Faulty
    queue: MemoryQueue
    invalidation: CacheInvalidator
    now: int = 0

    def holds(self) -> list[str]:
        """The coupons of which the cache has more than a claim."""
        return [code for code in (ONE, OTHER) if self.entry(code) != UNFENCED]

    def entry(self, code: str):
        return Entries(CODE_DERIVER).decode(code, self.cache.get(cache_key(code)).value)

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
        cache.put(cache_key(code), Entries(CODE_DERIVER).encode(code, Confirmed(lost)), 100)
    place = Place(cache, queue, CacheInvalidator(cache, store, queue, CODE_DERIVER, 100, lambda: place.now))
    return place


def test_in_the_place_of_what_is_wrong_comes_a_claim(place):
    """Not a miss: the store may be behind what was accepted on another entry."""
    place.invalidation.invalidate([ONE])
    assert place.holds() == [OTHER]
    assert place.owed() == []


def test_an_entry_that_changes_while_it_is_looked_at_is_looked_at_again(place):
    """Who lost confirms the reservation in this very moment."""
    replace = place.cache.replace

    def confirmed_before(key, value, token, ttl_s):
        place.cache.replace = replace
        replace(key, place.cache.get(key).value, token, ttl_s)
        return replace(key, value, token, ttl_s)

    place.cache.replace = confirmed_before
    place.invalidation.invalidate([ONE])
    assert place.holds() == [OTHER]


def test_an_entry_that_never_comes_to_rest_is_owed(place):
    place.cache.replace = lambda *_: None
    place.invalidation.invalidate([ONE])
    assert place.owed() == [b'["%s"]' % ONE.encode()]


def test_a_claim_with_a_fence_of_before_is_taken_for_wrong(place):
    """The command that we are here for may have been published behind it."""
    entries = Entries(CODE_DERIVER)
    place.cache.put(cache_key(ONE), entries.encode(ONE, Claim((("commands", 0, 1),))), 100)
    place.invalidation.invalidate([ONE])
    assert place.entry(ONE) == UNFENCED


def test_what_leads_on_from_the_store_stays(place):
    held = transition(a_coupon(ONE), a_command(Kind.ISSUE, "i", code=ONE))
    used = transition(held, a_command(Kind.USE, "u", "i", 2, code=ONE))
    place.cache.put(cache_key(ONE), Entries(CODE_DERIVER).encode(ONE, Confirmed(used)), 100)
    place.invalidation.invalidate([ONE])
    assert place.entry(ONE) == Confirmed(used)


def test_an_entry_that_cannot_be_read_is_owed_with_those_behind_it(place):
    place.cache.before["get"] = [away()]
    place.invalidation.invalidate([ONE, OTHER])
    assert place.owed() == [b'["%s","%s"]' % (ONE.encode(), OTHER.encode())]


def test_what_cannot_be_removed_is_owed_and_the_cache_left_alone_until_it_answers(place):
    place.cache.down = True
    place.invalidation.invalidate([ONE, OTHER])
    place.cache.calls.clear()
    place.invalidation.invalidate([ONE])
    assert place.cache.calls == []
    assert place.owed() == [b'["%s","%s"]' % (ONE.encode(), OTHER.encode()), b'["%s"]' % ONE.encode()]
    place.cache.down = False
    assert place.invalidation.is_unavailable()
    place.now = 500
    assert not place.invalidation.is_unavailable()


def test_a_topic_that_is_yet_to_be_made_is_waited_for(place):
    """What was applied is not to be taken for what can never be."""
    invalidation = CacheInvalidator(place.cache, MemoryStore(), MemoryQueue(), CODE_DERIVER, 100, lambda: 0)
    place.cache.down = True
    with pytest.raises(BackendUnavailable, match="coupon init"):
        invalidation.invalidate([ONE])
