"""What every queue says of where its partitions begin and end, where a group is, and what is at an offset."""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from backends.testing.queue_driving import drain, ends, messages, poll, values
from coupon.domain.errors import BackendRejected
from coupon.ports.queue import MESSAGE_MAX, Delivery, Message, Position, Queue

PLACES = [Position("t", number) for number in range(4)]
OTHER = [Position("other", number) for number in range(4)]
Trim = Callable[[Queue, Position, int], None]
"""Makes the queue forget what is before an offset of a partition, as its retention does."""


class QueueOffsets:
    def test_a_fresh_topic_begins_and_ends_at_nought(self, queue: Queue) -> None:
        nought = dict.fromkeys([*PLACES, *OTHER], 0)
        assert queue.ends(["t", "other"]) == queue.begins(["t", "other"]) == nought
        assert queue.committed(nought, "g") == nought
        assert queue.read(PLACES[0], 0, 10) == []

    def test_nothing_asked_is_nothing_answered(self, queue: Queue) -> None:
        assert queue.ends([]) == queue.begins([]) == queue.committed([], "g") == {}

    def test_an_end_is_behind_what_was_published_before(self, queue: Queue) -> None:
        published: list[Message] = []
        for number in range(30):
            published.append(Message("t", f"key-{number}", b"v"))
            queue.publish(published[-1:])
            assert sum(queue.ends(["t"]).values()) == len(published)
        assert queue.ends(["t"]) == dict.fromkeys(PLACES, 0) | ends(queue.browse("t"))
        assert set(queue.ends(["other"]).values()) == {0}
        assert set(queue.begins(["t"]).values()) == {0}

    def test_with_a_key_it_is_the_end_of_the_keys_partition(self, queue: Queue) -> None:
        queue.publish(messages(200))
        whole = queue.ends(["t", "other"])
        partitions = {delivery.key: delivery.partition for delivery in queue.browse("t")}
        assert set(partitions.values()) == {0, 1, 2, 3}
        for key, partition in partitions.items():
            places = [Position("t", partition), Position("other", partition)]
            assert queue.ends(["t", "other"], key) == {place: whole[place] for place in places}

    def test_committed_is_where_a_group_goes_on(self, queue: Queue) -> None:
        queue.publish(messages(100))
        consumer = queue.consumer(["t"], "g")
        deliveries = poll(consumer, 100)
        assert queue.committed(PLACES, "g") == queue.begins(["t"])
        first = _first_of_each(deliveries)
        consumer.commit(ends(first))
        assert queue.committed(PLACES, "g") == ends(first)
        assert queue.committed(PLACES[:1], "g") == {PLACES[0]: 1}
        consumer.commit(ends(deliveries))
        assert queue.committed(PLACES, "g") == queue.ends(["t"])
        assert queue.committed([*PLACES, OTHER[0]], "another") == dict.fromkeys([*PLACES, OTHER[0]], 0)

    def test_what_is_forgotten_moves_the_begin_and_nothing_else(self, queue: Queue, trim: Trim) -> None:
        queue.publish(messages(200))
        kept = values(queue.read(PLACES[0], 5, 500))
        whole = queue.ends(["t"])
        trim(queue, PLACES[0], 5)
        assert queue.begins(["t"]) == dict.fromkeys(PLACES, 0) | {PLACES[0]: 5}
        assert queue.ends(["t"]) == whole
        assert values(queue.read(PLACES[0], 0, 500)) == kept
        assert [d.offset for d in queue.browse("t") if d.partition == 0] == list(range(5, whole[PLACES[0]]))
        trim(queue, PLACES[0], whole[PLACES[0]])
        assert queue.begins(["t"])[PLACES[0]] == queue.ends(["t"])[PLACES[0]] == whole[PLACES[0]]
        assert queue.read(PLACES[0], 0, 500) == []

    def test_a_group_is_not_before_the_begin(self, queue: Queue, trim: Trim) -> None:
        queue.publish(messages(200))
        consumer = queue.consumer(["t"], "g")
        consumer.commit(ends(_first_of_each(poll(consumer, 200))))
        consumer.close()
        trim(queue, PLACES[0], 5)
        assert queue.committed(PLACES, "g") == dict.fromkeys(PLACES, 1) | {PLACES[0]: 5}
        assert queue.committed(PLACES, "late") == dict.fromkeys(PLACES, 0) | {PLACES[0]: 5}
        assert queue.lag(["t"], "g") == 200 - 5 - 3
        found = poll(queue.consumer(["t"], "g"), 200 - 5 - 3)
        assert {d.partition: d.offset for d in reversed(found)} == {0: 5, 1: 1, 2: 1, 3: 1}

    def test_a_partition_is_read_from_any_offset_on(self, queue: Queue) -> None:
        queue.publish([Message("t", "k", b"%d" % number) for number in range(60)])
        for number in range(60, 100):
            queue.publish([Message("t", "k", b"%d" % number)])
        (place,) = queue.ends(["t"], "k")
        sent = [b"%d" % number for number in range(100)]
        for offset in (0, 1, 37, 60, 61, 98, 99, 100, 101, 1_000):
            for limit in (1, 7, 1_000):
                found = queue.read(place, offset, limit)
                assert values(found) == sent[offset : offset + limit]
                assert [(d.topic, d.partition, d.key) for d in found] == [(*place, "k")] * len(found)
                assert [d.offset for d in found] == list(range(offset, offset + len(found)))

    def test_reading_moves_no_group(self, queue: Queue) -> None:
        queue.publish(messages(100))
        consumer = queue.consumer(["t"], "g")
        consumer.commit(ends(_first_of_each(poll(consumer, 100))))
        before = queue.committed(PLACES, "g")
        for place in PLACES:
            queue.read(place, 3, 100)
        assert queue.committed(PLACES, "g") == before
        assert queue.lag(["t"], "g") == 96

    def test_the_largest_messages_are_read(self, queue: Queue) -> None:
        for _ in range(8):
            queue.publish([Message("t", "k", os.urandom(MESSAGE_MAX))])
        (place,) = queue.ends(["t"], "k")
        assert queue.read(place, 0, 500)
        assert len(queue.read(place, 3, 1)) == 1
        assert [d.offset for d in queue.browse("t")] == list(range(8))

    def test_an_unknown_topic_or_partition_is_rejected(self, queue: Queue) -> None:
        queue.publish(messages(10))
        for position in (Position("nowhere", 0), Position("t", 4), Position("t", -1)):
            with pytest.raises(BackendRejected):
                queue.committed([PLACES[0], position], "g")
            with pytest.raises(BackendRejected):
                queue.read(position, 0, 1)
        for ask in (queue.ends, queue.begins):
            with pytest.raises(BackendRejected):
                ask(["t", "nowhere"])
        with pytest.raises(BackendRejected):
            queue.ends(["nowhere"], "k")
        assert sum(queue.ends(["t"]).values()) == 10

    def test_a_topic_that_was_made_later_is_known(self, queue: Queue) -> None:
        with pytest.raises(BackendRejected):
            queue.ends(["later"])
        queue.create(["later"])
        assert set(queue.ends(["later"]).values()) == {0}

    def test_many_threads_ask_at_once_and_each_gets_its_own_answer(self, queue: Queue) -> None:
        queue.publish(messages(100) + messages(40, "other"))
        for group in range(4):
            consumer = queue.consumer(["t"], f"g{group}")
            drain([consumer], 100) if group % 2 else poll(consumer, 100)
            consumer.close()
        whole, barrier = queue.ends(["t"]), threading.Barrier(16)

        def ask(thread: int) -> None:
            barrier.wait()
            for _ in range(10):
                assert sum(queue.ends(["t" if thread % 2 else "other"]).values()) == (100 if thread % 2 else 40)
                committed = queue.committed(PLACES, f"g{thread % 4}")
                assert committed == (whole if thread % 2 else dict.fromkeys(PLACES, 0))
                assert sum(len(queue.read(place, 0, 500)) for place in PLACES) == 100

        with ThreadPoolExecutor(16) as threads:
            list(threads.map(ask, range(16)))


def _first_of_each(deliveries: Iterable[Delivery]) -> list[Delivery]:
    """The first of each partition."""
    return list({delivery.partition: delivery for delivery in reversed(list(deliveries))}.values())
