"""When the store proves a cache entry wrong."""

import pytest

from coupon.model import Kind, transition
from coupon.protocol import settle
from coupon.reservations import CONFIRMED, is_wrong
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
