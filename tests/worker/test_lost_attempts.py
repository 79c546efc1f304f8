"""What is written down of attempts that lost, with a topic per command."""

import pytest

from coupon.applying.lost_attempts import browse_losers, publish_losers
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import Kind, Loser, Reason
from coupon.domain.topics import REJECTIONS
from coupon.ports.queue import Message
from tests.worker.faults import Faulty, away


def lost_use(world):
    """A coupon that is used, and a use of it that lost to that."""
    (code,) = world.coupons()
    world.change(Kind.ISSUE, code, "ann")
    world.drain()
    loser = world.rival(Kind.USE, code)
    winner = world.rival(Kind.USE, code)
    return code, loser, winner


def sent(world, kind, code):
    """The one command of that kind."""
    (found,) = world.backends.queue.browse(kind.value)
    return found


def test_a_loser_is_browse_losers_with_its_reason_before_its_offset_is_committed(per_command):
    code, winner, loser = lost_use(per_command)
    per_command.worker.run_once(poll_s=0)
    (found,) = browse_losers(per_command.backends.queue)
    (rejection,) = per_command.stored(code).rejections
    assert per_command.lag() > 0
    assert (found.code, found.operation, found.number) == (code, loser.operation, loser.number)
    assert (found.version, found.at, found.reason) == (rejection.version, rejection.at, Reason.RIVAL_WON)
    assert winner.operation in [entry.operation for entry in per_command.stored(code).history]


def test_a_loser_that_could_not_be_browse_losers_is_delivered_again_and_is_then(per_command):
    queue = Faulty(per_command.backends.queue)
    shaken = per_command.but(queue=queue)
    code, _, _ = lost_use(shaken)
    queue.before["publish"] = [away()]
    with pytest.raises(BackendUnavailable):
        shaken.worker.run_once(poll_s=0)
    assert len(shaken.stored(code).rejections) == 1
    assert list(browse_losers(queue)) == []
    shaken.worker.rewind()
    shaken.drain()
    assert len(list(browse_losers(queue))) == 1
    assert shaken.lag() == 0


def test_another_attempt_of_an_operation_that_was_applied_is_browse_losers_without_a_reason(per_command):
    (code,) = per_command.coupons()
    address = per_command.rival(Kind.ISSUE, code, "ann")
    again = per_command.rival(Kind.ISSUE, code, "ann", number=address.number + 7, operation=address.operation)
    per_command.drain()
    (found,) = browse_losers(per_command.backends.queue)
    assert (found.operation, found.number, found.reason) == (address.operation, again.number, None)


def test_what_was_applied_is_not_browse_losers_however_often_it_is_delivered(per_command):
    (code,) = per_command.coupons()
    per_command.change(Kind.ISSUE, code, "ann")
    message = sent(per_command, Kind.ISSUE, code)
    per_command.drain()
    per_command.backends.queue.publish([Message("issue", code, message.value)])
    per_command.drain()
    assert list(browse_losers(per_command.backends.queue)) == []


def test_with_one_topic_they_are_published_too(world):
    """A web process may have applied what the queue has later."""
    (code,) = world.coupons()
    ann = world.rival(Kind.ISSUE, code, "ann")
    bob = world.rival(Kind.ISSUE, code, "bob")
    world.drain()
    assert world.stored(code).user_id == "ann"
    (found,) = browse_losers(world.backends.queue)
    assert (found.operation, found.number) == (bob.operation, bob.number) != (ann.operation, ann.number)


def test_without_its_topic_a_worker_waits_for_an_operator(per_command, monkeypatch):
    lost_use(per_command)
    monkeypatch.setattr("coupon.applying.lost_attempts.REJECTIONS", "nowhere")
    with pytest.raises(BackendUnavailable, match="run coupon init"):
        per_command.worker.run_once(poll_s=0)


def test_what_is_no_loser_in_their_topic_is_passed_over(per_command):
    good = Loser("A" * 19, "operation", 1, 5, None, 7)
    per_command.backends.queue.publish([Message(REJECTIONS, "A", b"[1]"), Message(REJECTIONS, "A", b"")])
    publish_losers(per_command.backends.queue, [good])
    assert list(browse_losers(per_command.backends.queue)) == [good]
