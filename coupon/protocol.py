"""What the worker makes of a command, given the coupon that it finds in the store: four cases and no other.

| what the store holds                        | it means                            | verdict                      |
| ------------------------------------------- | ----------------------------------- | ---------------------------- |
| ``last_operation == command.previous``      | its turn                            | APPLIED, the coupon after it |
| ``command.operation`` in the history        | seen before                         | SEEN                         |
| ``command.previous`` in the history         | a rival won                         | REJECTED, recorded           |
| neither                                     | the predecessor lost, or is not     | REJECTED when order is kept  |
|                                             | here (yet)                          | or it is known to be lost,   |
|                                             |                                     | else WAITING                 |

Pure, as ``model.transition`` is, and used by nobody else.
"""

from enum import Enum, auto

from coupon.model import REJECTIONS_MAX, Command, Coupon, Reason, Refused, Rejection, transition


class Verdict(Enum):
    """What became of a command."""

    APPLIED = auto()
    SEEN = auto()
    REJECTED = auto()
    WAITING = auto()


def settle(coupon: Coupon, command: Command, *, wait: bool) -> tuple[Verdict, Coupon]:
    """The verdict, and the coupon as it has to be saved (the very same object when nothing changed).

    ``wait``: the predecessor may still be on its way on another topic, so do not reject for its absence.
    """
    if coupon.entry(command.operation) is not None or coupon.rejection(command.operation, command.previous) is not None:
        return Verdict.SEEN, coupon
    if coupon.last_operation == command.previous:
        try:
            return Verdict.APPLIED, transition(coupon, command)
        except Refused as refused:  # only when the two sides run with different rules: a deployment in between
            return Verdict.REJECTED, _reject(coupon, command, refused.reason)
    if coupon.entry(command.previous) is not None:
        return Verdict.REJECTED, _reject(coupon, command, Reason.RIVAL_WON)
    if _is_past_the_horizon(coupon, command):
        return Verdict.SEEN, coupon
    lost = any(rejection.operation == command.previous for rejection in coupon.rejections)
    if wait and not lost:
        return Verdict.WAITING, coupon
    return Verdict.REJECTED, _reject(coupon, command, Reason.PREDECESSOR_LOST)


def _is_past_the_horizon(coupon: Coupon, command: Command) -> bool:
    """True when the history no longer holds the place where the command was or would have been: it was settled,
    and whoever replays it must change nothing."""
    return command.previous_version <= coupon.version - len(coupon.history)


def _reject(coupon: Coupon, command: Command, reason: Reason) -> Coupon:
    rejection = Rejection(command.operation, command.previous, reason, command.accepted_at)
    return coupon._replace(rejections=(*coupon.rejections, rejection)[-REJECTIONS_MAX:])
