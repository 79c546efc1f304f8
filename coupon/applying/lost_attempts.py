"""Lost attempts, published for a restore: the topics of commands alone do not show which attempt won.

Of two rivals the one wins that the store has first. A web process may apply an awaited command before a worker polls
its rival. Where several topics carry a coupon's commands, the order of arrival decides, and so does the time that
a command waited for its predecessor.

So each attempt that lost is published, after its rejection was saved and before its offset is committed. When it is
delivered again, it is published again. A loss is final, so a late publication does no harm. A committed attempt that
was not published was applied.
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
    """The commands that lost: they were rejected, or another attempt of their operation was applied."""
    lost = []
    for command, verdict in zip(commands, applied.verdicts, strict=True):
        if verdict in (Verdict.DUPLICATE, Verdict.REJECTED):
            loser = _loser(command, applied.coupons[command.code])
            lost += [] if loser is None else [loser]
    return lost


def _loser(command: ChangeCoupon, coupon: Coupon) -> Loser | None:
    """The lost attempt; None when it did not lose, or when the coupon does not remember its outcome."""
    lost = Loser(command.code, command.operation, command.previous_version, command.accepted_at, None, command.number)
    if coupon.entry(command.operation) is not None:
        return None if is_applied(command, coupon) else lost
    status = outcome(coupon, command.operation, command.number)
    has_lost = status.state in (AttemptState.REJECTED, AttemptState.SUPERSEDED)
    return lost._replace(reason=status.reason) if has_lost else None


def is_applied(command: ChangeCoupon, coupon: Coupon | None) -> bool:
    """Whether the coupon's history has the command as this very attempt."""
    entry = coupon.entry(command.operation) if coupon is not None else None
    return entry is not None and entry.number in (0, command.number)


def publish_losers(queue: Queue, lost: Sequence[Loser]) -> None:
    """Raises BackendUnavailable, also when the topic does not exist yet."""
    if not lost:
        return
    try:
        queue.publish([Message(REJECTIONS, loser.code, dump(loser._asdict())) for loser in lost])
    except BackendRejected as error:
        raise BackendUnavailable(f"{error}: run coupon init") from error


def browse_losers(queue: Queue) -> Iterator[Loser]:
    """All lost attempts that were published, some of them several times. Raises BackendRejected when there is no such
    topic, BackendUnavailable."""
    for delivery in queue.browse(REJECTIONS):
        try:
            yield decode_loser(delivery.value)
        except Malformed as error:
            reason = delivery.forged.reason if delivery.forged else str(error)
            log.warning("not a rejection", partition=delivery.partition, offset=delivery.offset, error=reason)
