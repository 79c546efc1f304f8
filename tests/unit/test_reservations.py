"""When the store proves a cache entry wrong, and whose entry a reservation may touch."""

import pytest

from backends.cache.memory import MemoryCache
from backends.store.memory import MemoryStore
from coupon.model import Kind, transition
from coupon.ports.backend import BackendUnavailable
from coupon.protocol import settle
from coupon.reservations import CONFIRMED, Reservations, cache_key, is_wrong
from coupon.wire import encode_coupon
from tests.coupons import NOW, a_command, a_coupon

BORN = a_coupon()
ISSUED = transition(BORN, a_command(Kind.ISSUE, "i"))
CANCELLED = transition(ISSUED, a_command(Kind.CANCEL, "c", "i", 2))
ISSUED_BY_ANOTHER = transition(BORN, a_command(Kind.ISSUE, "j"))
ISSUED_TO_ANOTHER = transition(BORN, a_command(Kind.ISSUE, "i", user_id="bob"))
CANCELLED_AFTER_ANOTHER = transition(ISSUED_BY_ANOTHER, a_command(Kind.CANCEL, "c", "j", 2, accepted_at=NOW + 9))
_, LOST = settle(ISSUED_BY_ANOTHER, a_command(Kind.ISSUE, "i"), wait=False)


@pytest.mark.parametrize("stored", [BORN, ISSUED, CANCELLED])
def test_what_leads_on_from_the_store_is_right(stored):
    assert not is_wrong(CONFIRMED + encode_coupon(CANCELLED), stored)


@pytest.mark.parametrize(
    ("cached", "stored"),
    [
        (BORN, ISSUED),
        (ISSUED, ISSUED_BY_ANOTHER),
        (ISSUED, ISSUED_TO_ANOTHER),
        (ISSUED, CANCELLED_AFTER_ANOTHER),
        (CANCELLED, CANCELLED_AFTER_ANOTHER),
        (CANCELLED, LOST),
        (ISSUED, None),
    ],
)
def test_what_is_past_or_on_another_branch_is_wrong(cached, stored):
    """Also when both branches end with attempts of one operation."""
    assert is_wrong(CONFIRMED + encode_coupon(cached), stored)


def test_what_the_store_rejected_is_wrong():
    _, stored = settle(ISSUED, a_command(Kind.CANCEL, "c", "ghost", 2), wait=False)
    assert is_wrong(CONFIRMED + encode_coupon(CANCELLED), stored)


def test_what_cannot_be_read_is_wrong():
    assert is_wrong(b"C{", BORN)


class Mute(MemoryCache):
    """Writes are carried out, or not, and never answered."""

    carries_out = True

    def add(self, key, value, ttl_s):
        if self.carries_out:
            super().add(key, value, ttl_s)
        raise BackendUnavailable("no answer")


@pytest.fixture
def mute():
    return Mute()


@pytest.fixture
def reservations(mute):
    store = MemoryStore()
    store.save_many([BORN])
    return Reservations(mute, store, ttl_s=60, provisional_ttl_s=5, wait_ms=1)


def test_a_reservation_that_nobody_answered_for_is_confirmed_if_it_is_there(mute, reservations):
    reservation = reservations.reserve(reservations.read(BORN.code), ISSUED)
    assert not reservation.held
    reservations.confirm(reservation)
    assert reservations.read(BORN.code).coupon == ISSUED


@pytest.mark.parametrize("end", ["confirm", "drop"])
def test_the_entry_of_another_is_left_alone(mute, reservations, end):
    mute.carries_out = False
    reservation = reservations.reserve(reservations.read(BORN.code), ISSUED)
    mute.put(cache_key(BORN.code), theirs := CONFIRMED + encode_coupon(ISSUED_BY_ANOTHER), 60)
    getattr(reservations, end)(reservation)
    assert mute.get(cache_key(BORN.code)).value == theirs
