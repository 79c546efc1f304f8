"""Dead letters: messages that can never be applied, stored whole, with their record id and the reason, for a replay."""

import base64
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Annotated, NamedTuple

import msgspec
import structlog

from coupon.domain.errors import Malformed
from coupon.domain.serialization import INSTANT_MAX, decoded, dump
from coupon.domain.signatures import parse
from coupon.domain.topics import DEAD_LETTERS
from coupon.ports.queue import Delivery, Message, Queue

VALUE_MAX = 600_000
"""Bytes of a body that a dead letter holds: with record id and reason it has to fit into one message."""
FORGED_MAX = 16_000
"""The same for a message that is forged: whoever forges many must not fill the topic."""
REASON_MAX = 1_000
TOPIC_MAX = 249
"""Characters; Kafka's own bound."""
log = structlog.get_logger("coupon.dead_letters")


class DeadLetter(NamedTuple):
    """``value`` is the message's body; if not ``whole``, its first bytes. ``at`` is the time of dead-lettering in
    ms. ``forged``: no key of ours has signed it, and ``value`` has whatever stands in the place of a signature.
    ``is_ours`` is False for a message of the topic that is no dead letter."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    reason: str
    at: int
    whole: bool = True
    forged: bool = False
    is_ours: bool = True

    @property
    def id(self) -> str:
        """``topic/partition/offset`` of the message. A message that was dead-lettered twice has one id."""
        return f"{self.topic}/{self.partition}/{self.offset}"


def encode(delivery: Delivery, reason: str, at: int) -> Message:
    """The dead letter of a delivery, as a message."""
    value = delivery.forged.value if delivery.forged else delivery.value
    kept = value[: FORGED_MAX if delivery.forged else VALUE_MAX]
    body = {
        "topic": delivery.topic,
        "partition": delivery.partition,
        "offset": delivery.offset,
        "key": delivery.key,
        "value": base64.b64encode(kept).decode(),
        "reason": reason[:REASON_MAX],
        "at": at,
        "whole": len(value) == len(kept),
        "forged": delivery.forged is not None,
    }
    return Message(DEAD_LETTERS, delivery.key, dump(body))


class _Form(msgspec.Struct):
    """A dead letter as it is encoded, with its bounds: others may have written into the topic."""

    topic: Annotated[str, msgspec.Meta(pattern=rf"^[a-zA-Z0-9._-]{{1,{TOPIC_MAX}}}\Z")]
    partition: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
    offset: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    key: str
    value: bytes
    reason: Annotated[str, msgspec.Meta(max_length=REASON_MAX)]
    at: Annotated[int, msgspec.Meta(ge=0, le=INSTANT_MAX)]
    whole: bool = True
    forged: bool = False


_FORM = msgspec.json.Decoder(_Form)


def log_stranger(delivery: Delivery, reason: str) -> None:
    """A message of the topic is no dead letter."""
    log.warning("not a dead letter", partition=delivery.partition, offset=delivery.offset, error=reason)


def browse(queue: Queue, on_malformed: Callable[[Delivery, str], None] = log_stranger) -> Iterator[DeadLetter]:
    """All dead letters, each id once. ``on_malformed`` is called with any other message of the topic, and the
    reason."""
    seen: set[str] = set()
    for dead_letter in decode_all(queue.browse(DEAD_LETTERS), on_malformed):
        if dead_letter.id not in seen:
            seen.add(dead_letter.id)
            yield dead_letter


def browse_all(queue: Queue) -> Iterator[DeadLetter]:
    """As ``browse``, and each other message of the topic as a letter of itself, which cannot be replayed."""
    seen: set[str] = set()
    for delivery in queue.browse(DEAD_LETTERS):
        try:
            letter = _decode(delivery)
        except Malformed as error:
            letter = _stranger(delivery, str(error))
        if letter.id not in seen:
            seen.add(letter.id)
            yield letter


def decode_all(
    deliveries: Iterable[Delivery], on_malformed: Callable[[Delivery, str], None] = log_stranger
) -> Iterator[DeadLetter]:
    """The dead letters in these messages of the topic."""
    for delivery in deliveries:
        try:
            yield _decode(delivery)
        except Malformed as error:
            on_malformed(delivery, str(error))


def _decode(delivery: Delivery) -> DeadLetter:
    """Raises Malformed."""
    if delivery.forged:
        raise Malformed(delivery.forged.reason)
    return DeadLetter(*msgspec.structs.astuple(decoded(_FORM, delivery.value)))


def _stranger(delivery: Delivery, reason: str) -> DeadLetter:
    """A message of the topic that is no dead letter, as a letter of itself."""
    topic, partition, offset, key, value, forged = delivery
    value = forged.value if forged else value
    why = f"it is no dead letter: {reason}"[:REASON_MAX]
    return DeadLetter(topic, partition, offset, key, value, why, at=0, is_ours=False)


def fault(dead_letter: DeadLetter, topics: Collection[str], *, sign: bool = False) -> str | None:
    """Why the message cannot be replayed, when workers read these topics; None when it can. A replay signs the message:
    one that is forged becomes believed, so an operator has to ask for it by ``sign``."""
    if not dead_letter.is_ours:
        return dead_letter.reason
    if dead_letter.forged and not sign:
        return f"{dead_letter.reason}, and a replay would sign it: look at it, and replay it with --sign"
    if dead_letter.topic not in topics:
        return f"{dead_letter.topic!r} is none of the topics that workers read: {', '.join(sorted(topics))}"
    return None if dead_letter.whole else f"only the first {len(dead_letter.value):,} bytes of the message were kept"


def replay(queue: Queue, dead_letters: list[DeadLetter]) -> None:
    """Publish the messages again to their topics; none of them may have a ``fault``. A second replay is safe: a command
    that was applied is recognised. Raises BackendUnavailable, BackendRejected."""
    queue.publish([Message(letter.topic, letter.key, _unsigned(letter)) for letter in dead_letters])


def _unsigned(letter: DeadLetter) -> bytes:
    """The message without a signature that is not believed."""
    signed = parse(letter.value) if letter.forged else None
    return letter.value if signed is None else signed.value
