"""The four cases of design §2."""

import pytest

from coupon.model import HISTORY_MAX, REJECTIONS_MAX, Kind, Reason, transition
from coupon.protocol import Standing, Verdict, find, settle
from tests.coupons import NOW, a_command, a_coupon

COUPON = a_coupon()
ISSUE = a_command(Kind.ISSUE, "i")
ISSUED = transition(COUPON, ISSUE)


@pytest.mark.parametrize("wait", [True, False])
def test_a_command_whose_turn_it_is_is_applied(wait):
    assert settle(COUPON, ISSUE, wait=wait) == (Verdict.APPLIED, ISSUED)


@pytest.mark.parametrize("wait", [True, False])
def test_a_command_in_the_history_changes_nothing(wait):
    cancelled = transition(ISSUED, a_command(Kind.CANCEL, "c", "i", 2))
    for coupon in (ISSUED, cancelled):
        verdict, after = settle(coupon, ISSUE, wait=wait)
        assert verdict is Verdict.SEEN
        assert after is coupon


@pytest.mark.parametrize("wait", [True, False])
def test_a_rival_that_won_is_recorded_once(wait):
    late = a_command(Kind.ISSUE, "late")
    verdict, after = settle(ISSUED, late, wait=wait)
    assert verdict is Verdict.REJECTED
    assert after._replace(rejections=()) == ISSUED
    assert after.rejection("late", late.previous_version, late.accepted_at).reason is Reason.RIVAL_WON
    assert settle(after, late, wait=wait) == (Verdict.SEEN, after)


def test_an_absent_predecessor_is_waited_for_only_where_it_may_still_come():
    use = a_command(Kind.USE, "u", "never-seen", 2)
    assert settle(COUPON, use, wait=True) == (Verdict.WAITING, COUPON)
    verdict, after = settle(COUPON, use, wait=False)
    assert verdict is Verdict.REJECTED
    assert after.rejection("u", use.previous_version, use.accepted_at).reason is Reason.PREDECESSOR_LOST


def test_a_predecessor_known_to_be_rejected_is_not_waited_for():
    _, coupon = settle(ISSUED, a_command(Kind.ISSUE, "late"), wait=True)
    verdict, after = settle(coupon, a_command(Kind.USE, "u", "late", 2), wait=True)
    assert verdict is Verdict.REJECTED
    assert after.rejections[-1].reason is Reason.PREDECESSOR_LOST


@pytest.mark.parametrize("wait", [True, False])
def test_what_builds_on_a_second_attempt_is_not_lost_with_the_first(wait):
    """Both attempts of the operation were on version 2, the first on another branch, which lost."""
    first = a_command(Kind.CANCEL, "c", "ghost", 2)
    _, coupon = settle(ISSUED, first, wait=False)
    second = first._replace(previous="i", accepted_at=NOW + 2)
    onward = a_command(Kind.ISSUE, "onward", "c", 3, previous_at=second.accepted_at)
    assert find(coupon, onward.attempt).standing is Standing.EARLY
    _, coupon = settle(coupon, second, wait=wait)
    assert settle(coupon, onward, wait=wait)[0] is Verdict.APPLIED


@pytest.mark.parametrize("at", [NOW + 1, NOW + 2])
def test_a_rejected_operation_may_be_applied_as_a_new_attempt(at):
    """Also one that was accepted within the same millisecond."""
    _, coupon = settle(ISSUED, a_command(Kind.CANCEL, "c", "birth", 1), wait=False)
    verdict, after = settle(coupon, a_command(Kind.CANCEL, "c", "i", 2, accepted_at=at), wait=False)
    assert verdict is Verdict.APPLIED
    assert not after.issued


def test_two_rules_that_differ_reject_instead_of_failing():
    verdict, after = settle(COUPON, a_command(Kind.USE, "u"), wait=False)
    assert verdict is Verdict.REJECTED
    assert after.rejections[-1].reason is Reason.NOT_ISSUED


def test_a_replay_from_beyond_the_history_changes_nothing():
    coupon = ISSUED
    for number in range(HISTORY_MAX + 1):
        kind = Kind.ISSUE if number % 2 else Kind.CANCEL
        coupon = transition(coupon, a_command(kind, f"op{number}"))
    assert settle(coupon, ISSUE, wait=False) == (Verdict.SEEN, coupon)


def test_rejections_are_bounded():
    coupon = ISSUED
    for number in range(REJECTIONS_MAX + 1):
        _, coupon = settle(coupon, a_command(Kind.ISSUE, f"late{number}"), wait=False)
    assert len(coupon.rejections) == REJECTIONS_MAX
    assert coupon.rejections[-1].operation == f"late{REJECTIONS_MAX}"


def test_an_attempt_is_lost_once_another_operation_has_its_place_recorded_or_not():
    late = a_command(Kind.ISSUE, "late")
    assert find(ISSUED, late.attempt) == (Standing.LOST, Reason.RIVAL_WON)
    assert find(COUPON, late.attempt) == (Standing.TURN, None)
    _, recorded = settle(ISSUED, late, wait=False)
    assert find(recorded, late.attempt) == (Standing.REJECTED, Reason.RIVAL_WON)


def test_an_operation_that_lost_early_and_is_sent_again_is_not_taken_for_its_first_attempt():
    """Its predecessor came after all, at the very place where it was missed."""
    early = a_command(Kind.USE, "u", "i", 2)
    _, coupon = settle(COUPON, early, wait=False)
    _, coupon = settle(coupon, ISSUE, wait=False)
    verdict, after = settle(coupon, early._replace(accepted_at=NOW + 5), wait=False)
    assert verdict is Verdict.APPLIED
    assert after.used


def test_a_version_predicted_on_a_loser_is_nobody_elses_place():
    """What was built on the first attempt of an operation is not applied after its second."""
    _, coupon = settle(ISSUED, a_command(Kind.CANCEL, "c", "birth", 1), wait=False)
    built_on_the_first = a_command(Kind.ISSUE, "x", "c", 2)
    _, coupon = settle(coupon, a_command(Kind.CANCEL, "c", "i", 2, accepted_at=NOW + 2), wait=False)
    verdict, _ = settle(coupon, built_on_the_first, wait=False)
    assert verdict is Verdict.REJECTED
