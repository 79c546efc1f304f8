"""How far back the queue reaches: from what it has kept a store can be recreated, or one that is young enough."""

from coupon.applying.batch import task
from coupon.bulk.queue_history import Recorded
from coupon.domain.errors import Malformed
from coupon.domain.serialization import INSTANT_MAX, decode_loser, load
from coupon.domain.topics import DEAD_LETTERS, REJECTIONS
from coupon.ports.queue import Delivery, Position, Queue

CLOCKS_MS = 300_000
"""Commands are applied so long after they were accepted, or clocks differ by so much."""
READ_AT_ONCE = 100


def backup_needed_from(queue: Queue, recorded: Recorded) -> int:
    """The instant (ms) from which on a backup is young enough, where the queue has lost its beginning.

    0 when no message is left. Whatever was deleted was older than the oldest message that was kept."""
    trimmed = [_oldest(queue, recorded, position) for position in recorded.trimmed()]
    known = [instant for instant in trimmed if instant is not None]
    if len(known) < len(trimmed):  # nothing is left of some: they were deleted before what is left of others
        kept = [_oldest(queue, recorded, position) for position in recorded.ends]
        known += [min(instant for instant in kept if instant is not None)] if any(kept) else []
    return max(known) + CLOCKS_MS if known else 0


def _oldest(queue: Queue, recorded: Recorded, position: Position) -> int | None:
    """When the oldest of the partition was accepted, of those that can be read; None when there is none."""
    begin, end = recorded.begins[position], recorded.ends[position]
    while begin < end:
        found = queue.read(position, begin, READ_AT_ONCE)
        for delivery in found:
            instant = _instant(delivery)
            if instant is not None:
                return instant
        begin = found[-1].offset + 1 if found else end
    return None


def _instant(delivery: Delivery) -> int | None:
    try:
        if delivery.topic == REJECTIONS:
            return decode_loser(delivery.value).at
        if delivery.topic == DEAD_LETTERS:
            at = load(delivery.value)["at"]
            return at if isinstance(at, int) and 0 <= at <= INSTANT_MAX else None
    except (Malformed, TypeError, KeyError):
        return None
    return getattr(task(delivery).payload, "accepted_at", None)
