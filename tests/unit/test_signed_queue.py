"""A queue whose messages are signed: what it believes, and when it asks the store."""

from collections import Counter
from typing import Any, cast

import pytest

from backends.queue.memory import MemoryQueue
from backends.store.memory import MemoryStore
from backends.testing.queue import QueueContract
from backends.testing.queue_offsets import Trim
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.domain.signatures import LENGTH, MessageKey
from coupon.ports.queue import MESSAGE_MAX, Message, Position, Queue
from coupon.ports.store import Record
from coupon.runtime.keyring import ROOT, Keyring
from coupon.runtime.older_messages import KEY, KIND, UNSIGNED, OlderMessages, change, with_ends, with_key
from coupon.runtime.signed_queue import NOT_SIGNED, WRONG, SignedQueue

SECRET, OTHER = "a secret of the tests", "another-secret-of-the-tests"


class CountedStore(MemoryStore):
    """Counts its calls, and may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.is_away = False

    def get_records(self, *arguments: Any) -> dict[str, Record]:
        self.calls["get_records"] += 1
        if self.is_away:
            raise BackendUnavailable("away")
        return super().get_records(*arguments)


class House:
    """A queue of one partition, and processes that use it."""

    def __init__(self) -> None:
        self.store, self.beneath, self.now = CountedStore(), MemoryQueue(partitions=1), 0
        self.beneath.create(["t", "other"])
        self.queue = self.process()

    def process(self, secret: str = SECRET, path: str = "") -> SignedQueue:
        return SignedQueue(self.beneath, Keyring(secret, path), OlderMessages(self.store, lambda: self.now))

    def settled(self, *keys: str, **ends: int) -> None:
        """As `coupon init` leaves it."""
        for secret in keys or (SECRET,):
            change(self.store, lambda older: with_key(older, MessageKey(secret).id))  # noqa: B023 - called at once
        change(self.store, lambda older: with_ends(older, UNSIGNED, {f"{at}/0": end for at, end in ends.items()}))

    def forge(self, *values: bytes) -> None:
        self.beneath.publish([Message("t", "k", value) for value in values])

    def read(self, queue: SignedQueue | None = None) -> list[bytes | str]:
        """The values that are believed, and the reasons why others are not."""
        found = (queue or self.queue).read(Position("t", 0), 0, 100)
        assert all(delivery.value == b"" for delivery in found if delivery.forged)
        return [delivery.forged.reason if delivery.forged else delivery.value for delivery in found]


@pytest.fixture
def house() -> House:
    return House()


class TestSignedQueue(QueueContract):
    """It keeps the contract of every queue."""

    @pytest.fixture
    def url(self) -> str:
        return "memory://?partitions=4"

    @pytest.fixture
    def gone_url(self) -> str:
        return "memory://"

    @pytest.fixture
    def queue(self) -> Queue:
        queue = SignedQueue(MemoryQueue(partitions=4), Keyring(SECRET, ""), OlderMessages(MemoryStore()))
        queue.create(["t", "other"])
        return queue

    @pytest.fixture
    def gone(self, queue: Queue) -> Queue:
        queue.close()
        return queue

    @pytest.fixture
    def trim(self) -> Trim:
        return lambda queue, position, begin: cast(MemoryQueue, cast(SignedQueue, queue).beneath).trim(position, begin)

    def test_the_largest_messages_are_read(self, queue: Queue) -> None:
        largest = b"x" * (MESSAGE_MAX - LENGTH)
        queue.publish([Message("t", "k", largest)] * 3)
        assert [each.value for each in queue.browse("t")] == [largest] * 3

    def test_a_message_of_one_megabyte_passes_and_a_larger_one_is_rejected(self, queue: Queue) -> None:
        """With its signature."""
        with pytest.raises(BackendRejected):
            queue.publish([Message("t", "k", b"x" * (MESSAGE_MAX - LENGTH + 1))])


def test_what_was_published_here_is_read_polled_and_browsed_as_it_was(house):
    house.settled()
    house.queue.publish([Message("t", "k", b"value")])
    assert house.read() == [b"value"]
    assert [each.value for each in house.queue.browse("t")] == [b"value"]
    assert [each.value for each in house.queue.consumer(["t"], "g").poll(10, 0)] == [b"value"]
    assert [each.value for each in house.beneath.browse("t")] != [b"value"]


def test_what_nobody_signed_or_somebody_else_is_delivered_without_its_value(house):
    house.settled()
    key = MessageKey(SECRET)
    moved, others = key.sign("other", "k", b"moved"), MessageKey(OTHER).sign("t", "k", b"others'")
    house.forge(b"unsigned", moved, key.sign("t", "l", b"moved"), others, key.sign("t", "k", b"ours"))
    unknown = f"it is signed with the key '{MessageKey(OTHER).id}', which is not in the keyring"
    assert house.read() == [NOT_SIGNED, WRONG, WRONG, unknown, b"ours"]
    polled = house.queue.consumer(["t"], "g").poll(10, 0)
    assert [each.forged and each.forged.value for each in polled] == [
        b"unsigned",
        moved,
        *[each.value for each in house.beneath.browse("t")][2:4],
        None,
    ]
    assert sum(each.forged is None for each in house.queue.browse("t")) == 1


def test_what_was_there_before_is_taken_and_nothing_behind_it(house):
    house.forge(b"old 0", b"old 1")
    house.settled(t=2)
    house.forge(b"forged")
    assert house.read() == [b"old 0", b"old 1", NOT_SIGNED]


@pytest.mark.parametrize("keys", [[], [SECRET]])
def test_where_the_store_does_not_say_what_may_be_unsigned_that_is_waited_for(house, keys):
    """Also where a rotation was recorded, and nothing else."""
    for secret in keys:
        change(house.store, lambda older: with_key(older, MessageKey(secret).id))  # noqa: B023 - called at once
    house.queue.publish([Message("t", "k", b"value")])
    house.forge(b"old")
    with pytest.raises(BackendUnavailable, match="run coupon init"):
        house.read()
    house.settled(t=2)
    assert house.read() == [b"value", b"old"]


def test_in_a_partition_that_came_later_nothing_is_taken_unsigned(house):
    house.settled(other=7)
    house.forge(b"forged")
    assert house.read() == [NOT_SIGNED]


def test_the_store_is_asked_about_what_is_not_signed_and_nothing_else(house):
    house.settled()
    house.queue.publish([Message("t", "k", b"value")])
    house.store.calls.clear()
    house.queue.publish([Message("t", "k", b"value")] * 3)
    assert house.read() == [b"value"] * 4
    assert not house.store.calls
    house.forge(b"forged")
    house.read()
    assert house.store.calls["get_records"] == 1


def test_while_the_store_is_away_no_message_is_forged_and_none_is_skipped(house):
    house.settled()
    house.queue.publish([Message("t", "k", b"value")])
    house.forge(b"forged")
    consumer = house.queue.consumer(["t"], "g")
    house.store.is_away = True
    with pytest.raises(BackendUnavailable):
        consumer.poll(10, 0)
    with pytest.raises(BackendUnavailable):
        house.read()
    house.store.is_away = False
    assert [each.value for each in consumer.poll(10, 0)] == [b"value", b""]


def test_a_process_with_another_secret_neither_publishes_nor_takes_ours_for_forged(house):
    house.settled()
    house.queue.publish([Message("t", "k", b"value")])
    other = house.process(OTHER)
    with pytest.raises(BackendUnavailable, match="unknown to the store: COUPON_SECRET"):
        other.publish([Message("t", "k", b"lost")])
    with pytest.raises(BackendUnavailable, match="unknown to the store: COUPON_SECRET"):
        house.read(other)
    assert house.read() == [b"value"]


def test_a_process_whose_keyring_is_older_waits_for_the_newer_one(house, tmp_path):
    file = tmp_path / "keyring"
    file.write_text(f"{OTHER}\n")
    house.settled(SECRET, OTHER)
    house.process(path=str(file)).publish([Message("t", "k", b"value")])
    with pytest.raises(BackendUnavailable, match="is missing in COUPON_KEYRING_FILE"):
        house.read()
    assert house.read(house.process(path=str(file))) == [b"value"]


def test_of_a_retired_key_is_taken_what_was_there_when_it_was_retired(house, tmp_path):
    file = tmp_path / "keyring"
    file.write_text(f"{OTHER}\n")
    house.settled(SECRET, OTHER)
    house.queue.publish([Message("t", "k", b"before")])
    change(house.store, lambda older: with_ends(older, MessageKey(SECRET).id, {"t/0": 1}))
    house.forge(MessageKey(SECRET).sign("t", "k", b"leaked"))
    retired = f"it is signed with the key '{MessageKey(SECRET).id}', which is retired"
    assert house.read(house.process(path=str(file))) == [b"before", retired]


def test_what_nobody_signed_with_a_former_key_is_not_believed(house, tmp_path):
    file = tmp_path / "keyring"
    file.write_text(f"{OTHER}\n")
    house.settled(SECRET, OTHER)
    former = MessageKey(SECRET)
    house.forge(
        former.sign("t", "k", b"ours"), former.sign("t", "l", b"moved"), former.sign("t", "k", b"x")[:-1] + b"y"
    )
    assert house.read(house.process(path=str(file))) == [b"ours", WRONG, WRONG]


def test_a_record_that_is_none_refuses_nothing(house):
    house.store.save_groups([[Record(KIND, KEY, 1, '{"before": 7}')]])
    house.forge(b"value")
    with pytest.raises(BackendUnavailable, match="cannot be read"):
        house.read()


@pytest.mark.parametrize("has_it", [True, False])
def test_what_is_beyond_the_end_of_a_retired_key_is_forged_also_where_the_key_is_missing(house, tmp_path, has_it):
    """Nobody waits for a key that could not make the message count: whoever can write could stop the workers so."""
    file = tmp_path / "keyring"
    file.write_text(f"{OTHER}\n" if has_it else "")
    house.settled(SECRET, OTHER)
    house.queue.publish([Message("t", "k", b"value")])
    lost = MessageKey(OTHER).id
    change(house.store, lambda older: with_ends(older, lost, {}))
    house.forge(f"ck1.{lost}.{'0' * 32}\n{{}}".encode())
    retired = f"it is signed with the key '{lost}', which is retired"
    file.write_text(f"{OTHER}\n{ROOT}\n" if has_it else "")
    assert house.read(house.process(path=str(file))) == [b"value", retired]


RETIRED_HERE = "that signs is retired: copy COUPON_KEYRING_FILE"


def test_a_machine_with_an_old_keyring_does_not_believe_who_has_the_key_that_leaked(house):
    """It cannot tell its own messages from his, and waits for the new file."""
    house.settled(SECRET, OTHER)
    house.queue.publish([Message("t", "k", b"value")])
    change(house.store, lambda older: with_ends(older, MessageKey(SECRET).id, {"t/0": 1}))
    house.forge(MessageKey(SECRET).sign("t", "k", b"leaked"))
    house.now += 1_000
    with pytest.raises(BackendUnavailable, match=RETIRED_HERE):
        house.read()
    with pytest.raises(BackendUnavailable, match=RETIRED_HERE):
        house.queue.publish([Message("t", "k", b"value")])
    with pytest.raises(BackendUnavailable, match=RETIRED_HERE):
        house.queue.consumer(["t"], "g").poll(10, 0)


def test_while_the_store_is_away_what_it_said_last_counts(house):
    house.settled()
    house.queue.publish([Message("t", "k", b"value")])
    house.store.is_away = True
    house.now += 1_000
    house.queue.publish([Message("t", "k", b"value")])
    assert house.read() == [b"value"] * 2
    house.store.is_away = False
    change(house.store, lambda older: with_ends(older, MessageKey(SECRET).id, {}))
    house.now += 1_000
    with pytest.raises(BackendUnavailable, match=RETIRED_HERE):
        house.read()


def test_a_key_that_is_newer_than_the_last_look_at_the_store_signs_at_once(house, tmp_path):
    file = tmp_path / "keyring"
    file.write_text(f"{ROOT}\n")
    house.settled()
    queue = SignedQueue(house.beneath, Keyring(SECRET, str(file), lambda: house.now), OlderMessages(house.store))
    queue.publish([Message("t", "k", b"before")])
    change(house.store, lambda older: with_key(older, MessageKey(OTHER).id))
    file.write_text(f"{ROOT}\n{OTHER}\n")
    house.now += 1_000
    queue.publish([Message("t", "k", b"value")])
    assert house.read(queue) == [b"before", b"value"]
