"""Attempts that lost, published for a restore: a store that is recreated from the queue cannot know of them otherwise.

Where several topics carry a coupon's commands, the order of their arrival decides, or the time that one waited: rivals
were built on the same predecessor, or a number was settled before its turn. So each attempt that was not applied as
itself is published, after it was saved and before its offset is committed. It is published again when it is delivered
again. A loss is final, so a late publication does no harm. An attempt that is not published was applied, or is not
committed.
"""

from collections.abc import Iterator, Sequence

import structlog

from coupon.applying.apply import Applied
from coupon.domain.errors import BackendRejected, BackendUnavailable, Malformed
from coupon.domain.model import ChangeCoupon, Coupon, Loser
from coupon.domain.protocol import AttemptState, Verdict, outcome
from coupon.domain.serialization import decode_loser, dump
from coupon.domain.topics import REJECTIONS
from coupon.ports.queue import Message, Queue

log = structlog.get_logger("coupon.losers")


def losers(commands: Sequence[ChangeCoupon], applied: Applied) -> list[Loser]:
    """The commands that were not applied as themselves, and never will be."""
    lost = []
    for command, verdict in zip(commands, applied.verdicts, strict=True):
        if verdict in (Verdict.DUPLICATE, Verdict.REJECTED):
            loser = _loser(command, applied.coupons[command.code])
            lost += [] if loser is None else [loser]
    return lost


def _loser(command: ChangeCoupon, coupon: Coupon) -> Loser | None:
    """The attempt as a loser; None when it did not lose, or when the coupon does not remember its outcome."""
    lost = Loser(command.code, command.operation, command.previous_version, command.accepted_at, None, command.number)
    entry = coupon.entry(command.operation)
    if entry is not None:
        return None if entry.number in (0, command.number) else lost
    status = outcome(coupon, command.operation, command.number)
    has_lost = status.state in (AttemptState.REJECTED, AttemptState.SUPERSEDED)
    return lost._replace(reason=status.reason) if has_lost else None


def publish_losers(queue: Queue, lost: Sequence[Loser]) -> None:
    """Raises BackendUnavailable, also for a topic that an operator has yet to make."""
    try:
        queue.publish([Message(REJECTIONS, loser.code, dump(loser._asdict())) for loser in lost])
    except BackendRejected as error:
        raise BackendUnavailable(f"{error}: run coupon init") from error


def browse_losers(queue: Queue) -> Iterator[Loser]:
    """All published losers, some of them several times. Raises BackendRejected when there is no such topic."""
    for delivery in queue.browse(REJECTIONS):
        try:
            yield decode_loser(delivery.value)
        except Malformed as error:
            log.warning("not a rejection", partition=delivery.partition, offset=delivery.offset, error=str(error))
