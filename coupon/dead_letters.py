"""Messages that can never be carried out, kept with their place, the reason and every byte, to be replayed."""

import base64
import json
from collections.abc import Iterator
from typing import NamedTuple

from coupon.ports.queue import Delivery, Message, Queue
from coupon.topics import DEAD_LETTERS
from coupon.wire import dump


class DeadLetter(NamedTuple):
    """``value`` is the message's body, byte for byte; ``at`` is when it was given up, in milliseconds."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    reason: str
    at: int

    @property
    def id(self) -> str:
        """Where the message was: ``topic/partition/offset``. A message given up twice has one id."""
        return f"{self.topic}/{self.partition}/{self.offset}"


def encode(delivery: Delivery, reason: str, at: int) -> Message:
    """The dead letter of a delivery, as a message."""
    body = {
        "topic": delivery.topic,
        "partition": delivery.partition,
        "offset": delivery.offset,
        "key": delivery.key,
        "value": base64.b64encode(delivery.value).decode(),
        "reason": reason,
        "at": at,
    }
    return Message(DEAD_LETTERS, delivery.key, dump(body))


def browse(queue: Queue) -> Iterator[DeadLetter]:
    """All dead letters, each id once: one that was given up again after a redelivery is the same letter."""
    seen: set[str] = set()
    for delivery in queue.browse(DEAD_LETTERS):
        body = json.loads(delivery.value)
        letter = DeadLetter(**body | {"value": base64.b64decode(body["value"])})
        if letter.id not in seen:
            seen.add(letter.id)
            yield letter


def replay(queue: Queue, letters: list[DeadLetter]) -> None:
    """Publish the messages again where they came from. Replaying twice is safe: what was carried out is recognised."""
    queue.publish([Message(letter.topic, letter.key, letter.value) for letter in letters])
