"""What the clients of chaos ask for, and what is written down of it."""

from random import Random

import pytest

from coupon.domain.model import Kind
from tests.proof.chaos.beliefs import Belief
from tests.proof.chaos.traffic import NAMES_USER, Order


@pytest.mark.parametrize("kind", [Kind.ISSUE, Kind.USE, Kind.CANCEL, Kind.CANCEL_USE])
def test_other_words_are_another_request_of_the_interface(kind):
    """A cancel has no user: one that is written down with a user was never sent."""
    order = Order("key", kind, "code", "ann" if kind in NAMES_USER else None)
    others = [order.with_other_words(Random(seed), ["code", "other"]) for seed in range(50)]
    assert order not in others
    assert {other.key for other in others} == {"key"}
    assert all(other.user_id is None or other.kind in NAMES_USER for other in others)


def test_only_those_who_name_a_user_are_believed_to():
    chance = Random(0)
    belief = Belief("code", 0.0)
    for _ in range(50):
        kind, user_id = belief.next(chance)
        assert user_id is None or kind in NAMES_USER
        belief.accepted(kind, user_id)
