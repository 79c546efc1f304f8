"""What becomes of a command, given the coupon that the store holds: one chain of versions, and a place in it for each.

| what the store holds                              | it means                         | the worker                    |
| ------------------------------------------------- | -------------------------------- | ----------------------------- |
| the version and operation that it builds on, last | its turn                         | applies it, saves             |
| the operation in the history                      | seen before                      | does nothing                  |
| the attempt among the rejections                  | seen before                      | does nothing                  |
| another operation in its place                    | a rival won, against it or       | records the rejection         |
|                                                   | against what it was built on     |                               |
| an earlier version                                | the predecessor lost, or is not  | rejects it when order is kept |
|                                                   | here (yet)                       | or it is known to be lost,    |
|                                                   |                                  | else waits                    |
| a history that no longer reaches back to it       | settled, and forgotten           | does nothing                  |

Pure, as ``model.transition`` is.
"""

from enum import Enum, auto
from typing import NamedTuple

from coupon.model import REJECTIONS_MAX, Attempt, Command, Coupon, Reason, Refused, Rejection, transition


class Standing(Enum):
    """Where a coupon's record leaves an attempt."""

    APPLIED = auto()
    REJECTED = auto()
    TURN = auto()
    LOST = auto()
    EARLY = auto()
    FORGOTTEN = auto()


class Verdict(Enum):
    """What the worker made of a command."""

    APPLIED = auto()
    SEEN = auto()
    REJECTED = auto()
    WAITING = auto()


class Found(NamedTuple):
    """A standing, with the reason for a rejection, recorded (REJECTED) or certain (LOST)."""

    standing: Standing
    reason: Reason | None = None


def find(coupon: Coupon, attempt: Attempt) -> Found:
    """Where the attempt stands. What is APPLIED, REJECTED or LOST stays so; the others may change."""
    if coupon.entry(attempt.operation) is not None:
        return Found(Standing.APPLIED)
    rejection = coupon.rejection(attempt.operation, attempt.previous_version, attempt.at)
    if rejection is not None:
        return Found(Standing.REJECTED, rejection.reason)
    behind = coupon.version - attempt.previous_version
    if behind < 0:
        lost = coupon.rejection(attempt.previous, attempt.previous_version - 1, attempt.previous_at)
        return Found(Standing.LOST, Reason.PREDECESSOR_LOST) if lost else Found(Standing.EARLY)
    if behind > len(coupon.history):
        return Found(Standing.FORGOTTEN)
    if behind < len(coupon.history) and coupon.history[-1 - behind].operation != attempt.previous:
        return Found(Standing.LOST, Reason.PREDECESSOR_LOST)
    return Found(Standing.LOST, Reason.RIVAL_WON) if behind else Found(Standing.TURN)


def settle(coupon: Coupon, command: Command, *, wait: bool) -> tuple[Verdict, Coupon]:
    """The verdict, and the coupon as it has to be saved (the very same object when nothing changed).

    ``wait``: the predecessor may still be on its way on another topic, so do not reject for its absence.
    """
    match find(coupon, command.attempt):
        case Found(Standing.TURN):
            try:
                return Verdict.APPLIED, transition(coupon, command)
            except Refused as refused:  # only when the two sides run with different rules: a deployment in between
                return Verdict.REJECTED, _reject(coupon, command, refused.reason)
        case Found(Standing.LOST, reason) if reason is not None:
            return Verdict.REJECTED, _reject(coupon, command, reason)
        case Found(Standing.EARLY):
            if wait:
                return Verdict.WAITING, coupon
            return Verdict.REJECTED, _reject(coupon, command, Reason.PREDECESSOR_LOST)
    return Verdict.SEEN, coupon


def _reject(coupon: Coupon, command: Command, reason: Reason) -> Coupon:
    rejection = Rejection(command.operation, command.previous_version, reason, command.accepted_at)
    return coupon._replace(rejections=(*coupon.rejections, rejection)[-REJECTIONS_MAX:])
