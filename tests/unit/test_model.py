"""The table of design §3: from which state each command leads where, and with which reason it is refused."""

import pytest

from coupon.domain.errors import Refused
from coupon.domain.model import HISTORY_MAX, Coupon, Day, Kind, Reason, transition
from tests.coupons import NOW, a_command, a_coupon

CREATED = a_coupon()
ISSUED = transition(CREATED, a_command(Kind.ISSUE, "i"))
USED = transition(ISSUED, a_command(Kind.USE, "u", "i", 2))
FIRST, LAST, BEFORE, AFTER = Day("2026-11-01"), Day("2026-11-30"), Day("2026-10-31"), Day("2026-12-01")


def state(coupon: Coupon) -> tuple[str | None, int | None, int | None]:
    return coupon.user_id, coupon.issued_at, coupon.used_at


@pytest.mark.parametrize(
    ("coupon", "kind", "after"),
    [
        (CREATED, Kind.ISSUE, ("ann", NOW + 1, None)),
        (ISSUED, Kind.USE, ("ann", NOW + 1, NOW + 1)),
        (ISSUED, Kind.CANCEL, (None, None, None)),
        (USED, Kind.CANCEL_USE, ("ann", NOW + 1, None)),
    ],
)
@pytest.mark.parametrize("day", [FIRST, LAST])
def test_a_command_leads_to_its_state_on_the_first_and_on_the_last_day(coupon, kind, after, day):
    changed = transition(coupon, a_command(kind, "op", day=day))
    assert state(changed) == after
    assert changed.version == coupon.version + 1
    assert changed.last_operation == "op"
    assert changed.history[:-1] == coupon.history


@pytest.mark.parametrize(
    ("coupon", "kind", "day", "reason"),
    [
        (USED, Kind.ISSUE, FIRST, Reason.ALREADY_USED),
        (ISSUED, Kind.ISSUE, FIRST, Reason.ALREADY_ISSUED),
        (CREATED, Kind.ISSUE, AFTER, Reason.ALREADY_EXPIRED),
        (USED, Kind.USE, FIRST, Reason.ALREADY_USED),
        (ISSUED, Kind.USE, AFTER, Reason.EXPIRED),
        (ISSUED, Kind.USE, BEFORE, Reason.NOT_STARTED),
        (CREATED, Kind.USE, FIRST, Reason.NOT_ISSUED),
        (USED, Kind.CANCEL, FIRST, Reason.ALREADY_USED),
        (CREATED, Kind.CANCEL, FIRST, Reason.NOT_ISSUED),
        (ISSUED, Kind.CANCEL, AFTER, Reason.ALREADY_EXPIRED),
        (ISSUED, Kind.CANCEL_USE, FIRST, Reason.NOT_USED),
        (USED, Kind.CANCEL_USE, AFTER, Reason.EXPIRED),
    ],
)
def test_a_rule_refuses_with_its_reason(coupon, kind, day, reason):
    with pytest.raises(Refused) as refused:
        transition(coupon, a_command(kind, "op", day=day))
    assert refused.value.reason is reason


def test_only_the_holder_may_use_when_a_user_is_given():
    with pytest.raises(Refused, match="NOT_HOLDER"):
        transition(ISSUED, a_command(Kind.USE, "u", user_id="bob"))
    assert transition(ISSUED, a_command(Kind.USE, "u", user_id="ann")).used


def test_a_coupon_may_be_issued_before_its_first_day():
    assert transition(CREATED, a_command(Kind.ISSUE, "i", day=BEFORE)).issued


def test_the_history_is_bounded_and_the_version_is_not():
    coupon = CREATED
    for number in range(HISTORY_MAX):
        coupon = transition(coupon, a_command(Kind.CANCEL if number % 2 else Kind.ISSUE, f"op{number}"))
    assert len(coupon.history) == HISTORY_MAX
    assert coupon.version == HISTORY_MAX + 1
    assert coupon.entry("birth") is None


def test_a_creation_is_not_a_transition():
    with pytest.raises(ValueError, match="create"):
        transition(CREATED, a_command(Kind.CREATE, "op"))
