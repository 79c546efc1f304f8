"""How far back the queue reaches. Where its beginning was deleted, a restore needs a backup of the store that is young
enough."""

from coupon.applying.batch import task
from coupon.bulk.queue_history import Recorded
from coupon.domain.errors import Malformed
from coupon.domain.serialization import INSTANT_MAX, decode_loser, load
from coupon.domain.topics import DEAD_LETTERS, REJECTIONS
from coupon.ports.queue import Delivery, Position, Queue

CLOCKS_MS = 300_000
"""A margin for commands that were applied long after they were accepted, and for clocks that differ."""
READ_AT_ONCE = 100


def backup_needed_from(queue: Queue, recorded: Recorded) -> int:
    """The instant (ms) from which on a backup is young enough, when the oldest messages were deleted.

    0 when no message is left. Deleted messages are older than the oldest one that is left."""
    trimmed = [_oldest(queue, recorded, position) for position in recorded.trimmed()]
    instants = [instant for instant in trimmed if instant is not None]
    if len(instants) < len(trimmed):  # some partitions are empty: their messages are older than those that are left
        remaining = [_oldest(queue, recorded, position) for position in recorded.ends]
        instants += [min(instant for instant in remaining if instant is not None)] if any(remaining) else []
    return max(instants) + CLOCKS_MS if instants else 0


def _oldest(queue: Queue, recorded: Recorded, position: Position) -> int | None:
    """When the partition's oldest readable message was accepted (ms); None when there is none."""
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
