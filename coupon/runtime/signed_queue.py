"""A queue whose messages are signed, around any backend. Whoever goes through ``wiring.py`` has this one.

Each message is signed when it is published, and checked when it is polled, read or browsed. A message that is not
believed is delivered without its value, as ``Forged``: it is not hidden, because its offset has to be committed
(decision 30).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Self, cast

from coupon.domain.errors import BackendUnavailable
from coupon.domain.signatures import MessageKey, parse
from coupon.ports.queue import Consumer, Delivery, Forged, Message, Position, Queue, messages_between
from coupon.ports.url import Url
from coupon.runtime.keyring import Keyring
from coupon.runtime.older_messages import UNSIGNED, Older, OlderMessages

CHECKED_AT_ONCE = 50
"""Messages that are browsed: the store is asked at most once about so many."""
NOT_SIGNED = "it is not signed"
WRONG = "its signature is wrong"
UNKNOWN = "it is signed with the key {!r}, which is not in the keyring"
RETIRED = "it is signed with the key {!r}, which is retired"
OTHER_KEY = "the key {!r} that signs is unknown to the store: COUPON_SECRET or COUPON_KEYRING_FILE is another one here"
OWN_RETIRED = "the key {!r} that signs is retired: copy COUPON_KEYRING_FILE from where it was rotated to this machine"
NO_RECORD = "a message is not signed, and the store does not say which may be: run coupon init"
MISSING = "the key {!r} is missing in COUPON_KEYRING_FILE: copy the file from where it is"


class SignedQueue(Queue):
    """``beneath`` is the backend, which has the messages as they were published.

    It raises BackendUnavailable, too, when the store has to tell of signatures and does not. So it does when the
    keyring cannot be read, or is not that of the service."""

    def __init__(self, queue: Queue, keyring: Keyring, older: OlderMessages) -> None:
        self.beneath, self._seals = queue, Signatures(keyring, older)

    @classmethod
    def from_url(cls, url: Url) -> Self:
        raise NotImplementedError(f"wiring.open_backends signs the queue of {url}")

    def ping(self) -> None:
        self.beneath.ping()

    def close(self) -> None:
        self.beneath.close()

    def create(self, topics: Iterable[str]) -> None:
        self.beneath.create(topics)

    def publish(self, messages: Sequence[Message]) -> None:
        self.beneath.publish(self._seals.signed(messages))

    def consumer(self, topics: Sequence[str], group: str) -> Consumer:
        return SignedConsumer(self.beneath.consumer(topics, group), self._seals)

    def ends(self, topics: Sequence[str], key: str | None = None) -> dict[Position, int]:
        return self.beneath.ends(topics, key)

    def begins(self, topics: Sequence[str]) -> dict[Position, int]:
        return self.beneath.begins(topics)

    def committed(self, positions: Collection[Position], group: str) -> dict[Position, int]:
        return self.beneath.committed(positions, group)

    def read(self, position: Position, offset: int, limit: int) -> list[Delivery]:
        return self._seals.opened(self.beneath.read(position, offset, limit))

    def browse(self, topic: str) -> Iterator[Delivery]:
        return chain.from_iterable(map(self._seals.opened, _batches(self.beneath.browse(topic))))

    def lag(self, topics: Sequence[str], group: str) -> int:
        return self.beneath.lag(topics, group)

    def first_signed(self, position: Position) -> int | None:
        """The offset of the partition's first message that a key of ours has signed; None when there is none.

        The whole partition is read: whoever can write may have put any number of messages behind ours."""
        begin, end = (offsets([position.topic])[position] for offsets in (self.beneath.begins, self.beneath.ends))
        messages = messages_between(self.beneath, position, begin, end)
        return next((message.offset for message in messages if self._seals.is_ours(message)), None)


class SignedConsumer(Consumer):
    """A member of a group whose messages are checked."""

    def __init__(self, consumer: Consumer, signatures: "Signatures") -> None:
        self._consumer, self._seals = consumer, signatures

    def poll(self, max_messages: int, timeout_s: float) -> list[Delivery]:
        polled = self._consumer.poll(max_messages, timeout_s)
        try:
            return self._seals.opened(polled)
        except BackendUnavailable:
            self._consumer.rewind()  # what was polled is not skipped
            raise

    def commit(self, positions: Mapping[Position, int]) -> None:
        self._consumer.commit(positions)

    def rewind(self) -> None:
        self._consumer.rewind()

    def pause(self, places: Iterable[str | Position]) -> None:
        self._consumer.pause(places)

    def close(self) -> None:
        self._consumer.close()


class Signatures:
    """Signs messages, and checks those that were signed. Thread-safe."""

    def __init__(self, keyring: Keyring, older: OlderMessages) -> None:
        self._keyring, self._older = keyring, older

    def signed(self, messages: Sequence[Message]) -> list[Message]:
        """Raises BackendUnavailable."""
        if not messages:
            return []
        signing = self._keyring.signing
        self._ensure_ours(signing.id, self._older.recent() or self._older.present())
        sign = signing.sign
        return [Message(topic, key, sign(topic, key, value)) for topic, key, value in messages]

    def is_ours(self, delivery: Delivery) -> bool:
        """Whether a key of the keyring has signed the message."""
        signed = parse(delivery.value)
        key = signed and self._keyring.find(signed.key_id)
        return bool(signed and key and key.has_signed(delivery.topic, delivery.key, signed))

    def opened(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """The deliveries with their values as they were before they were signed. Raises BackendUnavailable.

        The store is asked about messages that the present key has not signed. About all others it is asked once in a
        second, whether that key is retired."""
        signing = self._keyring.signing
        if recent := self._older.recent():
            self._ensure_ours(signing.id, recent)
        opened = [_opened(delivery, signing) for delivery in deliveries]
        if None not in opened:
            return cast(list[Delivery], opened)
        older = self._older.present()
        self._ensure_ours(signing.id, older)
        return [found or self._judged(delivery, older) for delivery, found in zip(deliveries, opened, strict=True)]

    def _ensure_ours(self, key_id: str, older: Older) -> None:
        """Raise BackendUnavailable when the store does not know the key that signs, or knows it as retired. Then this
        process has another secret or keyring than the others. They would take its messages for forged. It would take
        theirs for forged, or believe who has a key that leaked."""
        if older.keys and key_id not in older.keys:
            older = self._older.present()  # the key may be new
        if older.keys and key_id not in older.keys:
            raise BackendUnavailable(OTHER_KEY.format(key_id))
        if older.is_retired(key_id):
            raise BackendUnavailable(OWN_RETIRED.format(key_id))

    def _judged(self, delivery: Delivery, older: Older) -> Delivery:
        """A delivery that the present key has not signed."""
        topic, partition, offset, key, value, _ = delivery
        position, signed = Position(topic, partition), parse(value)
        if signed is None:
            if not older.says_what_may_be_unsigned:
                raise BackendUnavailable(NO_RECORD)
            is_taken = older.takes(UNSIGNED, position, offset)
            return delivery if is_taken else _forged(delivery, NOT_SIGNED)
        if not older.takes(signed.key_id, position, offset):  # so nobody waits for the key, whoever named it
            return _forged(delivery, RETIRED.format(signed.key_id))
        former = self._keyring.find(signed.key_id)
        if former is None:
            if signed.key_id in older.keys:
                raise BackendUnavailable(MISSING.format(signed.key_id))
            return _forged(delivery, UNKNOWN.format(signed.key_id))
        if not former.has_signed(topic, key, signed):
            return _forged(delivery, WRONG)
        return Delivery(topic, partition, offset, key, signed.value)


def _opened(delivery: Delivery, key: MessageKey) -> Delivery | None:
    """The delivery without its signature; None when that key has not signed it."""
    value = key.open(delivery.topic, delivery.key, delivery.value)
    if value is None:
        return None
    return Delivery(delivery.topic, delivery.partition, delivery.offset, delivery.key, value)


def _forged(delivery: Delivery, reason: str) -> Delivery:
    return delivery._replace(value=b"", forged=Forged(reason, delivery.value))


def _batches(deliveries: Iterator[Delivery]) -> Iterator[list[Delivery]]:
    while batch := list(islice(deliveries, CHECKED_AT_ONCE)):
        yield batch
