"""Messages that can never be carried out, kept with their place, the reason and every byte, to be replayed."""

import base64
from collections.abc import Iterator
from typing import NamedTuple

import structlog

from coupon.ports.queue import Delivery, Message, Queue
from coupon.topics import DEAD_LETTERS
from coupon.wire import dump, load

VALUE_MAX = 600_000
"""A body that is longer is kept in part: with its place and its reason it has to fit into a message (1 MB)."""
log = structlog.get_logger("coupon.dead_letters")


class DeadLetter(NamedTuple):
    """``value`` is the message's body, byte for byte (its beginning, if not ``whole``); ``at`` is when it was given up,
    in milliseconds."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    reason: str
    at: int
    whole: bool = True

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
        "value": base64.b64encode(delivery.value[:VALUE_MAX]).decode(),
        "reason": reason[:1_000],
        "at": at,
        "whole": len(delivery.value) <= VALUE_MAX,
    }
    return Message(DEAD_LETTERS, delivery.key, dump(body))


def browse(queue: Queue) -> Iterator[DeadLetter]:
    """All dead letters, each id once: one that was given up again after a redelivery is the same letter."""
    seen: set[str] = set()
    for delivery in queue.browse(DEAD_LETTERS):
        try:
            body = load(delivery.value)
            letter = DeadLetter(**body | {"value": base64.b64decode(body["value"])})
        except (ValueError, TypeError, KeyError) as error:
            log.warning("not a dead letter", partition=delivery.partition, offset=delivery.offset, error=str(error))
            continue
        if letter.id not in seen:
            seen.add(letter.id)
            yield letter


def replay(queue: Queue, letters: list[DeadLetter]) -> None:
    """Publish the messages again where they came from; those that were kept in part are left out. Replaying twice is
    safe: what was carried out is recognised."""
    queue.publish([Message(letter.topic, letter.key, letter.value) for letter in letters if letter.whole])
