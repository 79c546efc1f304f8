"""What is owed to search or to the cache while it is away: codes, written down durably in a topic of their own."""

from collections.abc import Sequence

from coupon.domain.serialization import dump
from coupon.ports.backend import BackendRejected, BackendUnavailable
from coupon.ports.queue import Message, Queue

CODES_A_MESSAGE = 500


def enqueue(queue: Queue, topic: str, codes: Sequence[str]) -> None:
    """Write the codes down. Raises BackendUnavailable, also for a topic that an operator has yet to make: what was done
    for these coupons must not be taken for undoable."""
    try:
        queue.publish(messages(topic, codes))
    except BackendRejected as error:
        raise BackendUnavailable(f"{error}: run coupon init") from error


def messages(topic: str, codes: Sequence[str]) -> list[Message]:
    """One for some hundred codes."""
    starts = range(0, len(codes), CODES_A_MESSAGE)
    return [Message(topic, codes[start], dump(codes[start : start + CODES_A_MESSAGE])) for start in starts]
