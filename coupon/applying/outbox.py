"""The outbox: topics in which coupon codes wait, durably, for a search or a cache that is unavailable."""

from collections.abc import Sequence

from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.domain.serialization import dump
from coupon.ports.queue import Message, Queue

CODES_A_MESSAGE = 500


def enqueue(queue: Queue, topic: str, codes: Sequence[str]) -> None:
    """Put the codes into the outbox. Raises BackendUnavailable, also when the topic does not exist yet: the commands on
    these coupons must not be dead-lettered for it."""
    try:
        queue.publish(messages(topic, codes))
    except BackendRejected as error:
        raise BackendUnavailable(f"{error}: run coupon init") from error


def messages(topic: str, codes: Sequence[str]) -> list[Message]:
    """The messages with these codes, up to ``CODES_A_MESSAGE`` in each."""
    starts = range(0, len(codes), CODES_A_MESSAGE)
    return [Message(topic, codes[start], dump(codes[start : start + CODES_A_MESSAGE])) for start in starts]
