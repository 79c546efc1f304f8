"""Messages that somebody else writes into the topics of a real Kafka."""

from collections.abc import Iterator

import pytest
from kafka import KafkaProducer

from backends.store.memory import MemoryStore
from backends.testing.queue_driving import ends, poll
from coupon.ports.queue import Message, Queue
from coupon.runtime.keyring import Keyring, keys_of
from coupon.runtime.older_messages import OlderMessages, change, with_ends, with_key
from coupon.runtime.signed_queue import NOT_SIGNED, WRONG, SignedQueue
from tests.services import Services

SECRET = "a secret of the tests"


@pytest.fixture
def signed(queue: Queue) -> SignedQueue:
    """As after `coupon init`, at a time when one message of each partition was not signed."""
    store = MemoryStore()
    change(store, lambda older: with_key(older, keys_of(SECRET, []).root))
    change(store, lambda older: with_ends(older, "", {f"t/{partition}": 1 for partition in range(4)}))
    return SignedQueue(queue, Keyring(SECRET, ""), OlderMessages(store))


@pytest.fixture
def stranger(services: Services) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(bootstrap_servers=services.kafka)
    yield producer
    producer.close()


def test_what_a_bare_producer_writes_is_delivered_as_forged_and_stops_nothing(
    signed: SignedQueue, stranger: KafkaProducer, prefix: str
) -> None:
    def write(value: bytes, key: bytes | None = b"key") -> None:
        stranger.send(f"{prefix}t", value=value, key=key, partition=0).get(10)

    write(b"of an earlier version")
    signed.publish([Message("t", "key", b"ours")])
    (ours,) = [each for each in signed.beneath.browse("t") if each.value.endswith(b"ours")]
    for value, key in ((b"{}", b"key"), (b"", None), (ours.value, b"other"), (ours.value, b"\xff\xfe")):
        write(value, key)
    write(ours.value)
    consumer = signed.consumer(["t"], "g")
    polled = poll(consumer, 7)
    assert sorted(each.value for each in polled if not each.forged) == [b"of an earlier version", b"ours", b"ours"]
    assert sorted(each.forged.reason for each in polled if each.forged) == sorted([NOT_SIGNED] * 2 + [WRONG] * 2)
    consumer.commit(ends(polled))
    assert signed.lag(["t"], "g") == 0
    consumer.close()
