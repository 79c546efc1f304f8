"""Which attempts lost, written to the queue: what a store that is recreated from the queue alone cannot know otherwise.

Where several topics carry a coupon's commands, it is the order of their arrival, or the time that one waited, that
decides: rivals that were built on the same predecessor, a number that was settled before its turn. So each attempt that
was not applied as itself is written down, after it was saved and before its offset is committed; also when it is
delivered again. A loss is final, so whoever writes it late does no harm. Attempts that are not written down were
applied, or are not committed.
"""

from collections.abc import Iterator, Sequence

import structlog

from coupon.applying.apply import Applied
from coupon.domain.model import ChangeCoupon, Coupon, Loser
from coupon.domain.protocol import AttemptState, Verdict, outcome
from coupon.domain.serialization import Malformed, decode_loser, dump
from coupon.domain.topics import REJECTIONS
from coupon.ports.backend import BackendRejected, BackendUnavailable
from coupon.ports.queue import Message, Queue

log = structlog.get_logger("coupon.losers")


def losers(commands: Sequence[ChangeCoupon], settled: Applied) -> list[Loser]:
    """Those of the commands that were not applied as themselves, and never will be."""
    found = []
    for command, verdict in zip(commands, settled.verdicts, strict=True):
        if verdict in (Verdict.DUPLICATE, Verdict.REJECTED):
            loser = _loser(command, settled.coupons[command.code])
            found += [] if loser is None else [loser]
    return found


def _loser(command: ChangeCoupon, coupon: Coupon) -> Loser | None:
    """None, too, when the coupon does not remember what became of it."""
    lost = Loser(command.code, command.operation, command.previous_version, command.accepted_at, None, command.number)
    entry = coupon.entry(command.operation)
    if entry is not None:
        return None if entry.number in (0, command.number) else lost
    found = outcome(coupon, command.operation, command.number)
    has_lost = found.state in (AttemptState.REJECTED, AttemptState.SUPERSEDED)
    return lost._replace(reason=found.reason) if has_lost else None


def write_down(queue: Queue, found: Sequence[Loser]) -> None:
    """Raises BackendUnavailable, also for a topic that an operator has yet to make."""
    try:
        queue.publish([Message(REJECTIONS, loser.code, dump(loser._asdict())) for loser in found])
    except BackendRejected as error:
        raise BackendUnavailable(f"{error}: run coupon init") from error


def written_down(queue: Queue) -> Iterator[Loser]:
    """All there are, some of them several times. Raises BackendRejected when there is no such topic."""
    for delivery in queue.browse(REJECTIONS):
        try:
            yield decode_loser(delivery.value)
        except Malformed as error:
            log.warning("not a rejection", partition=delivery.partition, offset=delivery.offset, error=str(error))
