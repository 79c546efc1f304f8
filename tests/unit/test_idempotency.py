"""Who may free a key that was bound."""

import pytest

from backends.cache.memory import MemoryCache
from coupon.acceptance.idempotency import IdempotencyKeys
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import IdempotencyKeyReused
from coupon.runtime.cache_entries import CacheOrAway

ONE, OTHER = "k" * 12 + "wordsofit", "k" * 12 + "another1"


@pytest.fixture
def keys():
    return IdempotencyKeys(CacheOrAway(MemoryCache()), CodeDeriver("a secret for tests only"), 24)


def is_bound(keys):
    try:
        keys.check("shop", "k", OTHER)
    except IdempotencyKeyReused:
        return True
    return False


def test_who_bound_a_key_frees_it(keys):
    keys.release(keys.bind("shop", "k", ONE))
    assert not is_bound(keys)


def test_who_bound_a_key_does_not_free_it_while_a_twin_goes_on_with_it(keys):
    first = keys.bind("shop", "k", ONE)
    keys.bind("shop", "k", ONE)
    keys.release(first)
    assert is_bound(keys)


def test_a_twin_does_not_free_what_it_did_not_bind(keys):
    keys.bind("shop", "k", ONE)
    keys.release(keys.bind("shop", "k", ONE))
    assert is_bound(keys)


def test_what_was_accepted_is_known_to_the_next_one_with_the_same_words(keys):
    keys.accepted(keys.bind("shop", "k", ONE))
    assert keys.bind("shop", "k", ONE).accepted
    with pytest.raises(IdempotencyKeyReused):
        keys.bind("shop", "k", OTHER)


def test_of_two_that_were_both_refused_nothing_stays_bound(keys):
    first, twin = keys.bind("shop", "k", ONE), keys.bind("shop", "k", ONE)
    keys.release(first)
    keys.release(twin)
    assert not is_bound(keys)


def test_a_retry_that_is_refused_does_not_free_what_was_accepted(keys):
    keys.accepted(keys.bind("shop", "k", ONE))
    keys.release(keys.bind("shop", "k", ONE))
    assert is_bound(keys)


def test_what_was_accepted_is_known_though_a_twin_came_in_between(keys):
    first = keys.bind("shop", "k", ONE)
    keys.bind("shop", "k", ONE)
    keys.accepted(first)
    assert keys.bind("shop", "k", ONE).accepted
