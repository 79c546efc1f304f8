"""The four cases of design §2."""

import pytest

from coupon.domain.model import HISTORY_MAX, KEY_LENGTH, REJECTIONS_MAX, Kind, Reason, transition
from coupon.domain.protocol import AHEAD_MAX, AttemptState, Verdict, classify, decide, decide_ahead, outcome
from tests.coupons import a_command, a_coupon

COUPON = a_coupon()
ISSUE = a_command(Kind.ISSUE, "i")
ISSUED = transition(COUPON, ISSUE)


@pytest.mark.parametrize("wait", [True, False])
def test_a_command_whose_turn_it_is_is_applied(wait):
    assert decide(COUPON, ISSUE, wait=wait) == (Verdict.APPLIED, ISSUED)


@pytest.mark.parametrize("wait", [True, False])
def test_a_command_in_the_history_changes_nothing(wait):
    cancelled = transition(ISSUED, a_command(Kind.CANCEL, "c", "i", 2))
    for coupon in (ISSUED, cancelled):
        verdict, after = decide(coupon, ISSUE, wait=wait)
        assert verdict is Verdict.DUPLICATE
        assert after is coupon


@pytest.mark.parametrize("wait", [True, False])
def test_a_rival_that_won_is_recorded_once(wait):
    late = a_command(Kind.ISSUE, "late")
    verdict, after = decide(ISSUED, late, wait=wait)
    assert verdict is Verdict.REJECTED
    assert after._replace(rejections=()) == ISSUED
    assert after.rejection("late", late.number).reason is Reason.RIVAL_WON
    assert decide(after, late, wait=wait) == (Verdict.DUPLICATE, after)


def test_an_absent_predecessor_is_waited_for_only_where_it_may_still_come():
    use = a_command(Kind.USE, "u", "never-seen", 2)
    assert decide(COUPON, use, wait=True) == (Verdict.DEFERRED, COUPON)
    verdict, after = decide(COUPON, use, wait=False)
    assert verdict is Verdict.REJECTED
    assert after.rejection("u", use.number).reason is Reason.PREDECESSOR_LOST


def test_a_predecessor_known_to_be_rejected_is_not_waited_for():
    _, coupon = decide(ISSUED, a_command(Kind.ISSUE, "late"), wait=True)
    verdict, after = decide(coupon, a_command(Kind.USE, "u", "late", 2), wait=True)
    assert verdict is Verdict.REJECTED
    assert after.rejections[-1].reason is Reason.PREDECESSOR_LOST


@pytest.mark.parametrize("wait", [True, False])
def test_what_builds_on_a_second_attempt_is_not_lost_with_the_first(wait):
    """Both attempts of the operation were on version 2, the first on another branch, which lost."""
    first = a_command(Kind.CANCEL, "c", "ghost", 2)
    _, coupon = decide(ISSUED, first, wait=False)
    second = first._replace(previous="i", number=coupon.next_number(fresh=True))
    onward = a_command(Kind.ISSUE, "onward", "c", 3, number=second.number + 1, previous_number=second.number)
    assert classify(coupon, onward).state is AttemptState.PREDECESSOR_MISSING
    _, coupon = decide(coupon, second, wait=wait)
    assert decide(coupon, onward, wait=wait)[0] is Verdict.APPLIED


def test_a_rejected_operation_may_be_applied_as_a_new_attempt():
    _, coupon = decide(ISSUED, a_command(Kind.CANCEL, "c", "birth", 1), wait=False)
    verdict, after = decide(coupon, a_command(Kind.CANCEL, "c", "i", 2), wait=False)
    assert verdict is Verdict.APPLIED
    assert not after.issued


def test_two_rules_that_differ_reject_instead_of_failing():
    verdict, after = decide(COUPON, a_command(Kind.USE, "u"), wait=False)
    assert verdict is Verdict.REJECTED
    assert after.rejections[-1].reason is Reason.NOT_ISSUED


def test_a_replay_from_beyond_the_history_changes_nothing():
    coupon = ISSUED
    for number in range(HISTORY_MAX + 1):
        kind = Kind.ISSUE if number % 2 else Kind.CANCEL
        coupon = transition(coupon, a_command(kind, f"op{number}", version=coupon.version))
    assert decide(coupon, ISSUE, wait=False) == (Verdict.DUPLICATE, coupon)


def test_rejections_are_bounded():
    coupon = ISSUED
    for number in range(REJECTIONS_MAX + 1):
        _, coupon = decide(coupon, a_command(Kind.ISSUE, f"late{number}"), wait=False)
    assert len(coupon.rejections) == REJECTIONS_MAX
    assert {rejection.number for rejection in coupon.rejections} == {2}


def test_of_the_rejections_those_with_the_highest_numbers_are_kept_in_whatever_order_they_came():
    lost = [a_command(Kind.CANCEL, f"c{n:03}", "ghost", 2, number=n) for n in range(10, 10 + REJECTIONS_MAX + 5)]
    coupon = ISSUED
    for command in reversed(lost):
        _, coupon = decide(coupon, command, wait=False)
    assert [rejection.operation for rejection in coupon.rejections] == [c.operation for c in lost[5:]]


def test_an_outcome_stays_rejected_however_many_rejections_there_were_since():
    coupon, lost = ISSUED, [a_command(Kind.CANCEL, f"c{n}", "ghost", n) for n in range(2, 3 * REJECTIONS_MAX)]
    for command in lost:
        _, coupon = decide(coupon, command, wait=False)
    assert {outcome(coupon, c.operation, c.number).state for c in lost} == {
        AttemptState.REJECTED,
        AttemptState.SUPERSEDED,
    }
    assert {decide(coupon, command, wait=False) for command in lost} == {(Verdict.DUPLICATE, coupon)}


def test_what_was_settled_before_the_history_begins_is_forgotten_not_rejected():
    coupon = ISSUED
    for number in range(HISTORY_MAX + 5):
        kind = Kind.ISSUE if number % 2 else Kind.CANCEL
        coupon = transition(coupon, a_command(kind, f"op{number}", version=coupon.version))
    assert outcome(coupon, "i", ISSUE.number).state is AttemptState.BEYOND_HISTORY
    oldest = coupon.history[0]
    assert outcome(coupon, oldest.operation, oldest.number).state is AttemptState.APPLIED
    assert outcome(coupon, "another", oldest.number).state is AttemptState.SUPERSEDED


def test_a_number_that_was_settled_is_refused_even_when_it_would_be_its_turn():
    """It was rejected before, and nobody remembers."""
    _, coupon = decide(COUPON, a_command(Kind.USE, "u", "ghost", 2, number=9), wait=False)
    verdict, after = decide(coupon, ISSUE, wait=False)
    assert verdict is Verdict.REJECTED
    assert not after.issued
    fresh = a_command(Kind.ISSUE, "i", number=coupon.next_number(fresh=False))
    assert decide(coupon, fresh, wait=False)[0] is Verdict.APPLIED


def test_a_late_command_of_an_old_chain_takes_no_fresh_chain_with_it():
    """It is rejected before the fresh chain's first command is looked at, and settles all that is not beyond it."""
    number = COUPON.next_number(fresh=True)
    stub = transition(COUPON, a_command(Kind.ISSUE, "stub", number=number))
    late = a_command(Kind.USE, "late", "stub", stub.version, number=stub.next_number(fresh=False))
    _, coupon = decide(COUPON, a_command(Kind.ISSUE, "won", user_id="bob", number=number), wait=False)
    fresh = a_command(Kind.CANCEL, "fresh", "won", coupon.version, number=coupon.next_number(fresh=True))
    verdict, coupon = decide(coupon, late, wait=False)
    assert verdict is Verdict.REJECTED
    assert decide(coupon, fresh, wait=False)[0] is Verdict.APPLIED


@pytest.mark.parametrize("version", [1, 2])
def test_a_key_that_was_used_for_another_request_is_told_so(version):
    """Whatever the command was built on."""
    first, second = "k" * KEY_LENGTH + "request1", "k" * KEY_LENGTH + "request2"
    coupon = transition(COUPON, a_command(Kind.ISSUE, first))
    verdict, after = decide(coupon, a_command(Kind.ISSUE, second, first, version, user_id="bob"), wait=True)
    assert verdict is Verdict.REJECTED
    assert after.rejections[-1].reason is Reason.IDEMPOTENCY_KEY_REUSED
    assert after.user_id == "ann"


def test_an_attempt_is_lost_once_another_operation_has_its_place_recorded_or_not():
    late = a_command(Kind.ISSUE, "late")
    assert classify(ISSUED, late) == (AttemptState.SUPERSEDED, Reason.RIVAL_WON)
    assert classify(COUPON, late) == (AttemptState.NEXT, None)
    _, recorded = decide(ISSUED, late, wait=False)
    assert classify(recorded, late) == (AttemptState.REJECTED, Reason.RIVAL_WON)


def test_an_operation_that_lost_early_and_is_sent_again_is_not_taken_for_its_first_attempt():
    """Its predecessor came after all, at the very place where it was missed."""
    early = a_command(Kind.USE, "u", "i", 2)
    _, coupon = decide(COUPON, early, wait=False)
    _, coupon = decide(coupon, ISSUE, wait=False)
    assert not coupon.issued  # what it was built on came too late
    issue = ISSUE._replace(number=coupon.next_number(fresh=True))
    _, coupon = decide(coupon, issue, wait=False)
    again = early._replace(number=issue.number + 1, previous_number=issue.number)
    verdict, after = decide(coupon, again, wait=False)
    assert verdict is Verdict.APPLIED
    assert after.used


def test_a_version_predicted_on_a_loser_is_nobody_elses_place():
    """What was built on the first attempt of an operation is not applied after its second."""
    _, coupon = decide(ISSUED, a_command(Kind.CANCEL, "c", "birth", 1), wait=False)
    built_on_the_first = a_command(Kind.ISSUE, "x", "c", 2)
    _, coupon = decide(coupon, a_command(Kind.CANCEL, "c", "i", 2, number=5), wait=False)
    verdict, _ = decide(coupon, built_on_the_first, wait=False)
    assert verdict is Verdict.REJECTED


def test_a_key_is_not_told_to_be_reused_before_the_turn_of_the_command_has_come():
    """By then the key has left the history, as it had for who accepted the command behind a hundred others."""
    first, later = "k" * KEY_LENGTH + "request1", "k" * KEY_LENGTH + "request2"
    stored = transition(COUPON, a_command(Kind.ISSUE, first))
    ahead = stored
    for number in range(HISTORY_MAX):
        kind = Kind.ISSUE if number % 2 else Kind.CANCEL
        ahead = transition(ahead, a_command(kind, f"op{number}", ahead.last_operation, ahead.version))
    cancel = a_command(Kind.CANCEL, later, ahead.last_operation, ahead.version)
    assert outcome(stored, later, cancel.number).state is AttemptState.OPEN
    assert decide(stored, cancel, wait=True) == (Verdict.DEFERRED, stored)
    assert decide(ahead, cancel, wait=True)[0] is Verdict.APPLIED


def test_what_was_applied_as_an_earlier_attempt_settles_the_later_one_too():
    """Or its outcome would go from applied to accepted once the history has forgotten it."""
    first = a_command(Kind.ISSUE, "i")
    coupon = transition(COUPON, first)
    again = first._replace(number=coupon.next_number(fresh=True))
    verdict, after = decide(coupon, again, wait=False)
    assert verdict is Verdict.DUPLICATE
    assert after == coupon._replace(settled=again.number)
    assert decide(after, again, wait=False) == (Verdict.DUPLICATE, after)


def test_a_rival_with_a_higher_number_does_not_apply_beside_the_winner():
    """It was built on the same state, from the store: its number alone does not tell that it is late."""
    late = a_command(Kind.ISSUE, "late", number=COUPON.next_number(fresh=True))
    assert late.number > ISSUED.settled
    assert classify(ISSUED, late) == (AttemptState.SUPERSEDED, Reason.RIVAL_WON)


def test_a_web_process_applies_what_is_next_and_counts_it():
    verdict, after = decide_ahead(COUPON, ISSUE)
    assert (verdict, after) == (Verdict.APPLIED, ISSUED._replace(ahead=1))
    assert decide(after, ISSUE, wait=False) == (Verdict.DUPLICATE, after)
    use = a_command(Kind.USE, "u", "i", 2)
    assert decide_ahead(after, use)[1].ahead == 2
    assert decide(after, use, wait=False)[1].ahead == 0


@pytest.mark.parametrize(
    ("coupon", "command"),
    [
        (ISSUED, ISSUE),
        (ISSUED, a_command(Kind.ISSUE, "late")),
        (COUPON, a_command(Kind.USE, "u", "never-seen", 2)),
        (COUPON, a_command(Kind.USE, "u")),
        (COUPON._replace(ahead=AHEAD_MAX), ISSUE),
    ],
    ids=["applied", "a rival won", "no predecessor", "not allowed", "too far ahead of the workers"],
)
def test_a_web_process_leaves_all_else_to_the_worker(coupon, command):
    assert decide_ahead(coupon, command) == (Verdict.DEFERRED, coupon)
