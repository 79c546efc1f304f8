"""Messages that can never be applied, kept with their place, the reason and every byte, to be replayed."""

import base64
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Annotated, NamedTuple

import msgspec
import structlog

from coupon.domain.serialization import INSTANT_MAX, Malformed, decoded, dump
from coupon.domain.topics import DEAD_LETTERS
from coupon.ports.queue import Delivery, Message, Queue

VALUE_MAX = 600_000
"""A body that is longer is kept in part: with its place and its reason it has to fit into a message (1 MB)."""
REASON_MAX = 1_000
TOPIC_MAX = 249
"""Characters; Kafka's own bound."""
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
        "reason": reason[:REASON_MAX],
        "at": at,
        "whole": len(delivery.value) <= VALUE_MAX,
    }
    return Message(DEAD_LETTERS, delivery.key, dump(body))


class _Form(msgspec.Struct):
    """What a letter's message has to be: anybody may have written into the topic."""

    topic: Annotated[str, msgspec.Meta(min_length=1, max_length=TOPIC_MAX)]
    partition: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
    offset: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    key: str
    value: bytes
    reason: Annotated[str, msgspec.Meta(max_length=REASON_MAX)]
    at: Annotated[int, msgspec.Meta(ge=0, le=INSTANT_MAX)]
    whole: bool = True


_FORM = msgspec.json.Decoder(_Form)


def _log(delivery: Delivery, reason: str) -> None:
    log.warning("not a dead letter", partition=delivery.partition, offset=delivery.offset, error=reason)


def browse(queue: Queue, tell: Callable[[Delivery, str], None] = _log) -> Iterator[DeadLetter]:
    """All dead letters, each id once: one that was given up again after a redelivery is the same letter. ``tell`` is
    told of each message that is none, and why."""
    seen: set[str] = set()
    for letter in letters_of(queue.browse(DEAD_LETTERS), tell):
        if letter.id not in seen:
            seen.add(letter.id)
            yield letter


def letters_of(deliveries: Iterable[Delivery], tell: Callable[[Delivery, str], None] = _log) -> Iterator[DeadLetter]:
    """The letters in these messages of the topic."""
    for delivery in deliveries:
        try:
            yield DeadLetter(*msgspec.structs.astuple(decoded(_FORM, delivery.value)))
        except Malformed as error:
            tell(delivery, str(error))


def fault(letter: DeadLetter, topics: Collection[str]) -> str | None:
    """Why the letter cannot be replayed, while the workers read these topics; None when it can."""
    if letter.topic not in topics:
        return f"{letter.topic!r} is none of the topics that workers read: {', '.join(sorted(topics))}"
    return None if letter.whole else f"only the first {len(letter.value):,} bytes of the message were kept"


def replay(queue: Queue, letters: list[DeadLetter]) -> None:
    """Publish the messages again where they came from. Replaying twice is safe: what was applied is recognised.
    Of a letter that has a ``fault`` that cannot be said."""
    queue.publish([Message(letter.topic, letter.key, letter.value) for letter in letters])
