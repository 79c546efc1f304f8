"""What becomes of a command, given the coupon that the store holds: one chain of versions, and a place in it for each.

| what the store holds                              | it means                         | the worker                    |
| ------------------------------------------------- | -------------------------------- | ----------------------------- |
| the operation in the history                      | seen before                      | does nothing                  |
| the command's number is settled                   | seen before, or it can no longer | does nothing                  |
|                                                   | be carried out                   |                               |
| the version and operation that it builds on, last | its turn                         | applies it, saves             |
| the same, and another operation with its key in   | the key was used twice           | records the rejection         |
| the history                                       |                                  |                               |
| another operation in its place                    | a rival won, against it or       | records the rejection         |
|                                                   | against what it was built on     |                               |
| an earlier version                                | the predecessor lost, or is not  | rejects it when order is kept |
|                                                   | here (yet)                       | or the predecessor is settled,|
|                                                   |                                  | else waits                    |

A number is settled when it is not beyond the coupon's ``settled``. So an outcome never changes, however many commands
and rejections there were since; the recorded rejections tell the reasons of the newest ones.

Pure, as ``model.transition`` is.
"""

from enum import Enum, auto
from typing import NamedTuple

from coupon.domain.model import REJECTIONS_MAX, Command, Coupon, Reason, Refused, Rejection, number_of, transition


class Standing(Enum):
    """Where a coupon's record leaves an attempt. OPEN, TURN and EARLY may change; the others tell what became of it:
    REJECTED what is recorded, LOST what is certain without a record."""

    APPLIED = auto()
    REJECTED = auto()
    FORGOTTEN = auto()
    OPEN = auto()
    TURN = auto()
    LOST = auto()
    EARLY = auto()


class Verdict(Enum):
    """What the worker made of a command."""

    APPLIED = auto()
    SEEN = auto()
    REJECTED = auto()
    WAITING = auto()


class Found(NamedTuple):
    """A standing, with the reason for a rejection (REJECTED, LOST)."""

    standing: Standing
    reason: Reason | None = None


def outcome(coupon: Coupon, operation: str, number: int) -> Found:
    """What became of the attempt: APPLIED, REJECTED, FORGOTTEN (settled before the history begins), LOST, or OPEN."""
    if coupon.entry(operation) is not None:
        return Found(Standing.APPLIED)
    rejection = coupon.rejection(operation, number)
    if rejection is not None:
        return Found(Standing.REJECTED, rejection.reason)
    if number > coupon.settled:
        return Found(Standing.OPEN)
    oldest = coupon.version - len(coupon.history) + 1
    if oldest > 1 and number < coupon.number_at(oldest):
        return Found(Standing.FORGOTTEN)
    return Found(Standing.LOST, Reason.IDEMPOTENCY_KEY_REUSED if _is_reused(coupon, operation) else Reason.RIVAL_WON)


def find(coupon: Coupon, command: Command) -> Found:
    """Where the command stands: an outcome, or its TURN, or EARLY."""
    found = outcome(coupon, command.operation, command.number)
    if found.standing is not Standing.OPEN:
        return found
    behind = coupon.version - command.previous_version
    if behind < 0:
        lost = command.previous_number <= coupon.settled
        return Found(Standing.LOST, Reason.PREDECESSOR_LOST) if lost else Found(Standing.EARLY)
    if _is_reused(coupon, command.operation):
        return Found(Standing.LOST, Reason.IDEMPOTENCY_KEY_REUSED)
    if behind < len(coupon.history) and coupon.history[-1 - behind].operation != command.previous:
        return Found(Standing.LOST, Reason.PREDECESSOR_LOST)
    return Found(Standing.LOST, Reason.RIVAL_WON) if behind else Found(Standing.TURN)


def _is_reused(coupon: Coupon, operation: str) -> bool:
    """Whether the history has another operation with the same key. Asked once its number is settled or it has come to
    its turn: before that the key may yet leave the history, as it had for who accepted the command."""
    return coupon.same_key(operation) is not None


def settle(coupon: Coupon, command: Command, *, wait: bool) -> tuple[Verdict, Coupon]:
    """The verdict, and the coupon as it has to be saved (the very same object when nothing changed).

    ``wait``: the predecessor may still be on its way on another topic, so do not reject for its absence.
    """
    match find(coupon, command):
        case Found(Standing.TURN):
            try:
                return Verdict.APPLIED, transition(coupon, command)
            except Refused as refused:  # only when the two sides run with different rules: a deployment in between
                return Verdict.REJECTED, _reject(coupon, command, refused.reason)
        case Found(Standing.LOST, reason) if reason is not None:
            after = _reject(coupon, command, reason)
            return (Verdict.SEEN, coupon) if after == coupon else (Verdict.REJECTED, after)
        case Found(Standing.EARLY):
            if wait:
                return Verdict.WAITING, coupon
            return Verdict.REJECTED, _reject(coupon, command, Reason.PREDECESSOR_LOST)
        case Found(Standing.APPLIED) if command.number > coupon.settled:  # as an earlier attempt
            return Verdict.SEEN, coupon._replace(settled=command.number)
    return Verdict.SEEN, coupon


def record(coupon: Coupon, rejection: Rejection) -> Coupon:
    """The coupon with the rejection, of an attempt that has none there. Of all those with the highest numbers are kept,
    in whatever order they came."""
    kept = sorted((*coupon.rejections, rejection), key=lambda it: (number_of(it), it.operation))[-REJECTIONS_MAX:]
    return coupon._replace(rejections=tuple(kept), settled=max(coupon.settled, number_of(rejection)))


def _reject(coupon: Coupon, command: Command, reason: Reason) -> Coupon:
    return record(
        coupon, Rejection(command.operation, command.previous_version, reason, command.accepted_at, command.number)
    )
