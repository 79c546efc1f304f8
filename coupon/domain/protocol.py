"""What becomes of a command, given the coupon in the store. Each of a coupon's commands makes a version.

| what the store holds                              | it means                         | the worker                    |
| ------------------------------------------------- | -------------------------------- | ----------------------------- |
| the operation in the history                      | seen before                      | does nothing                  |
| the command's number is settled                   | seen before, or it can no longer | does nothing                  |
|                                                   | be applied                       |                               |
| the version and operation that it builds on, last | its turn                         | applies it, saves             |
| its version or a later one, and another operation | the key was used twice           | records the rejection         |
| with its key in the history                       |                                  |                               |
| another operation at its version                  | a rival won, against it or       | records the rejection         |
|                                                   | against what it was built on     |                               |
| an earlier version                                | the predecessor lost, or is not  | rejects it when order is kept |
|                                                   | here (yet)                       | or the predecessor is settled,|
|                                                   |                                  | else waits                    |

A number is settled when it is at most the coupon's ``settled``. So an outcome never changes, however many commands and
rejections there were since. The coupon records the reasons of its last rejections only.

Pure, as ``model.transition`` is (decisions 5 and 17).
"""

from enum import Enum, auto
from typing import NamedTuple

from coupon.domain.errors import Refused
from coupon.domain.model import (
    HISTORY_MAX,
    REJECTIONS_MAX,
    ChangeCoupon,
    Coupon,
    Reason,
    Rejection,
    number_of,
    transition,
)

AHEAD_MAX = HISTORY_MAX // 2
"""The most commands of a coupon that web processes apply before a worker does. So a worker finds what they did, and
which attempts lost to it, in the coupon's history."""


class AttemptState(Enum):
    """The state of an attempt, by the coupon in the store. OPEN, NEXT and PREDECESSOR_MISSING may change.

    The rest are outcomes: a REJECTED attempt is recorded in the coupon, a SUPERSEDED one lost without a record."""

    APPLIED = auto()
    REJECTED = auto()
    BEYOND_HISTORY = auto()
    OPEN = auto()
    NEXT = auto()
    SUPERSEDED = auto()
    PREDECESSOR_MISSING = auto()


class Verdict(Enum):
    """What the worker made of a command."""

    APPLIED = auto()
    DUPLICATE = auto()
    REJECTED = auto()
    DEFERRED = auto()


class AttemptStatus(NamedTuple):
    """The state of an attempt, with the reason for a rejection (REJECTED, SUPERSEDED)."""

    state: AttemptState
    reason: Reason | None = None


def outcome(coupon: Coupon, operation: str, number: int) -> AttemptStatus:
    """The outcome of the attempt: APPLIED, REJECTED, BEYOND_HISTORY (settled before the history begins),
    SUPERSEDED, or OPEN."""
    if coupon.entry(operation) is not None:
        return AttemptStatus(AttemptState.APPLIED)
    rejection = coupon.rejection(operation, number)
    if rejection is not None:
        return AttemptStatus(AttemptState.REJECTED, rejection.reason)
    if number > coupon.settled:
        return AttemptStatus(AttemptState.OPEN)
    oldest = coupon.version - len(coupon.history) + 1
    if oldest > 1 and number < coupon.number_at(oldest):
        return AttemptStatus(AttemptState.BEYOND_HISTORY)
    reason = Reason.IDEMPOTENCY_KEY_REUSED if _is_reused(coupon, operation) else Reason.RIVAL_WON
    return AttemptStatus(AttemptState.SUPERSEDED, reason)


def classify(coupon: Coupon, command: ChangeCoupon) -> AttemptStatus:
    """The state of the command: an outcome, or NEXT, or PREDECESSOR_MISSING."""
    status = outcome(coupon, command.operation, command.number)
    if status.state is not AttemptState.OPEN:
        return status
    behind = coupon.version - command.previous_version
    if behind < 0:
        if command.previous_number <= coupon.settled:
            return AttemptStatus(AttemptState.SUPERSEDED, Reason.PREDECESSOR_LOST)
        return AttemptStatus(AttemptState.PREDECESSOR_MISSING)
    if _is_reused(coupon, command.operation):
        return AttemptStatus(AttemptState.SUPERSEDED, Reason.IDEMPOTENCY_KEY_REUSED)
    if behind < len(coupon.history) and coupon.history[-1 - behind].operation != command.previous:
        return AttemptStatus(AttemptState.SUPERSEDED, Reason.PREDECESSOR_LOST)
    return AttemptStatus(AttemptState.SUPERSEDED, Reason.RIVAL_WON) if behind else AttemptStatus(AttemptState.NEXT)


def _is_reused(coupon: Coupon, operation: str) -> bool:
    """Whether the history has another operation with the same key.

    Not asked while the predecessor is missing: until it arrives, the history may still drop the key."""
    return coupon.same_key(operation) is not None


def decide(coupon: Coupon, command: ChangeCoupon, *, wait: bool) -> tuple[Verdict, Coupon]:
    """The verdict, and the coupon to save (the same object when nothing changed).

    ``wait``: a missing predecessor may still arrive on another topic, so the command is deferred and not rejected.
    """
    match classify(coupon, command):
        case AttemptStatus(AttemptState.NEXT):
            try:
                return Verdict.APPLIED, transition(coupon, command)._replace(ahead=0)
            except Refused as refused:  # only when web and worker run different rules, during a deployment
                return Verdict.REJECTED, _reject(coupon, command, refused.reason)
        case AttemptStatus(AttemptState.SUPERSEDED, reason) if reason is not None:
            after = _reject(coupon, command, reason)
            return (Verdict.DUPLICATE, coupon) if after == coupon else (Verdict.REJECTED, after)
        case AttemptStatus(AttemptState.PREDECESSOR_MISSING):
            if wait:
                return Verdict.DEFERRED, coupon
            return Verdict.REJECTED, _reject(coupon, command, Reason.PREDECESSOR_LOST)
        case AttemptStatus(AttemptState.APPLIED) if command.number > coupon.settled:  # as an earlier attempt
            return Verdict.DUPLICATE, coupon._replace(settled=command.number)
    return Verdict.DUPLICATE, coupon


def decide_ahead(coupon: Coupon, command: ChangeCoupon) -> tuple[Verdict, Coupon]:
    """As ``decide``, for the web process that accepted the command: it applies what is next, and leaves all else to the
    worker (DEFERRED). The worker records what lost, and knows whether a predecessor may still arrive."""
    if coupon.ahead >= AHEAD_MAX or classify(coupon, command).state is not AttemptState.NEXT:
        return Verdict.DEFERRED, coupon
    try:
        return Verdict.APPLIED, transition(coupon, command)._replace(ahead=coupon.ahead + 1)
    except Refused:  # another version accepted it, during a deployment
        return Verdict.DEFERRED, coupon


def record(coupon: Coupon, rejection: Rejection) -> Coupon:
    """The coupon with one rejection more, which it does not have yet. Beyond ``REJECTIONS_MAX`` the lowest number is
    dropped, whatever the order of arrival."""
    rejections = sorted((*coupon.rejections, rejection), key=lambda each: (number_of(each), each.operation))
    return coupon._replace(
        rejections=tuple(rejections[-REJECTIONS_MAX:]), settled=max(coupon.settled, number_of(rejection))
    )


def _reject(coupon: Coupon, command: ChangeCoupon, reason: Reason) -> Coupon:
    return record(
        coupon, Rejection(command.operation, command.previous_version, reason, command.accepted_at, command.number)
    )
