"""What every queue must do. Subclass ``QueueContract``, give it the fixtures, and pytest runs it:

    class TestMyQueue(QueueContract, QueueAcrossProcesses):
        @pytest.fixture
        def url(self) -> str: ...       # a fresh and empty queue, with four partitions a topic

        @pytest.fixture
        def gone_url(self) -> str: ...  # a queue whose server is away

        @pytest.fixture
        def trim(self, …) -> Trim: ...  # forgets the oldest messages of a partition: see queue_offsets.py

``QueueAcrossProcesses`` (queue_processes.py) is for queues that several processes share.
"""

import os
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from backends.testing.interleaving import meet, moments
from backends.testing.queue_driving import PATIENCE_S, by_key, drain, ends, messages, opened, poll, values
from backends.testing.queue_failures import QueueFailures
from backends.testing.queue_groups import PARTITIONS, QueueGroups
from backends.testing.queue_offsets import QueueOffsets
from backends.testing.threads import beside
from backends.testing.timing import takes_less_than
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.ports.queue import MESSAGE_MAX, Consumer, Delivery, Message, Queue


class QueueContract(QueueGroups, QueueOffsets, QueueFailures):
    @pytest.fixture
    def queue(self, url: str) -> Iterator[Queue]:
        queue = opened(url)
        queue.create(["t", "other"])
        yield queue
        queue.close()

    def test_it_answers_a_ping(self, queue: Queue) -> None:
        queue.ping()

    def test_what_was_published_is_delivered_as_it_was(self, queue: Queue) -> None:
        sent = [
            Message("t", "", b""),
            Message("t", "쿠폰-ü-🎟", b"\x00\xff\n"),
            Message("t", "k" * 200, "값".encode()),
            Message("t", "a\x00b", b"\x00"),
            Message("other", "k", b"v"),
        ]
        queue.publish(sent)
        deliveries = poll(queue.consumer(["t", "other"], "g"), len(sent))
        assert sorted((d.topic, d.key, d.value) for d in deliveries) == sorted(map(tuple, sent))

    def test_publishing_nothing_is_fine(self, queue: Queue) -> None:
        queue.publish([])
        assert list(queue.browse("t")) == []

    def test_messages_of_a_key_keep_their_order_over_many_publishes(self, queue: Queue) -> None:
        sent = messages(3_000)
        for begin in range(0, 600, 3):
            queue.publish(sent[begin : begin + 3])
        for begin in range(600, 3_000, 400):
            queue.publish(sent[begin : begin + 400])
        assert by_key(drain([queue.consumer(["t"], "g")], 3_000)[0]) == by_key(sent)

    def test_a_key_has_one_partition_and_keys_are_spread(self, queue: Queue) -> None:
        queue.publish(messages(400))
        queue.publish(messages(400))
        partitions: dict[str, set[int]] = {}
        for delivery in queue.browse("t"):
            partitions.setdefault(delivery.key, set()).add(delivery.partition)
        assert all(len(places) == 1 for places in partitions.values())
        assert set.union(*partitions.values()) == set(range(PARTITIONS))

    def test_offsets_of_a_partition_count_up_by_one(self, queue: Queue) -> None:
        queue.publish(messages(500))
        offsets: dict[int, list[int]] = {}
        for delivery in drain([queue.consumer(["t"], "g")], 500)[0]:
            offsets.setdefault(delivery.partition, []).append(delivery.offset)
        assert all(found == list(range(len(found))) for found in offsets.values())

    def test_a_poll_gives_no_more_than_asked_for_and_leaves_nothing_out(self, queue: Queue) -> None:
        queue.publish(messages(100))
        consumer = queue.consumer(["t"], "g")
        found: list[Delivery] = []
        while len(found) < 100:
            polled = consumer.poll(7, PATIENCE_S)
            assert 0 < len(polled) <= 7
            found += polled
        assert by_key(found) == by_key(messages(100))

    def test_a_poll_that_waits_is_woken_by_a_message(self, queue: Queue) -> None:
        consumer = queue.consumer(["t"], "g")
        queue.publish([Message("t", "k", b"first")])
        poll(consumer, 1)
        timer = threading.Timer(0.3, queue.publish, [[Message("t", "k", b"second")]])
        timer.start()
        began = time.monotonic()
        assert values(consumer.poll(10, PATIENCE_S)) == [b"second"]
        assert time.monotonic() - began < PATIENCE_S / 3
        timer.join()

    def test_a_poll_that_finds_nothing_comes_back_in_time(self, queue: Queue) -> None:
        consumers: list[Consumer] = []

        def first_poll() -> None:
            consumers.append(queue.consumer(["t"], f"g{len(consumers)}"))
            assert consumers[-1].poll(10, 0.0) == []

        def second_poll() -> None:
            assert consumers[-1].poll(10, 0.3) == []

        takes_less_than(1, first_poll)
        takes_less_than(1.3, second_poll)

    def test_browsing_gives_all_there_is_in_order_and_moves_no_group(self, queue: Queue) -> None:
        queue.publish(messages(300))
        drain([queue.consumer(["t"], "g")], 300)
        browsing = queue.browse("t")
        queue.publish([Message("t", "late", b"late")])
        found = list(browsing)
        assert by_key(found) == by_key(messages(300))
        assert len(list(queue.browse("t"))) == 301
        assert list(queue.browse("other")) == []
        assert (queue.lag(["t"], "g"), queue.lag(["t"], "another")) == (1, 301)

    def test_browsing_may_be_given_up_in_the_middle(self, queue: Queue) -> None:
        queue.publish(messages(300))
        browsing = queue.browse("t")
        next(browsing)
        del browsing
        assert len(list(queue.browse("t"))) == 300

    def test_browsing_that_cannot_go_on_says_so(self, queue: Queue) -> None:
        queue.publish(messages(300))
        browsing = queue.browse("t")
        next(browsing)
        queue.close()
        with pytest.raises(BackendUnavailable):
            list(browsing)

    def test_lag_is_what_was_not_committed(self, queue: Queue) -> None:
        assert queue.lag(["t", "other"], "g") == 0
        queue.publish(messages(30) + messages(5, "other"))
        assert (queue.lag(["t"], "g"), queue.lag(["t", "other"], "g")) == (30, 35)
        consumer = queue.consumer(["t"], "g")
        deliveries = poll(consumer, 30)
        assert queue.lag(["t"], "g") == 30
        consumer.commit(ends(deliveries))
        assert (queue.lag(["t"], "g"), queue.lag(["t", "other"], "g")) == (0, 5)

    def test_a_message_of_one_megabyte_passes_and_a_larger_one_is_rejected(self, queue: Queue) -> None:
        largest = os.urandom(MESSAGE_MAX)
        queue.publish([Message("t", "k", largest)])
        with pytest.raises(BackendRejected):
            queue.publish([Message("t", "k", b"small"), Message("t", "k", largest + b"!")])
        queue.publish([Message("t", "k", b"after")])
        assert values(poll(queue.consumer(["t"], "g"), 2)) == [largest, b"after"]

    def test_a_topic_that_does_not_exist_is_rejected(self, queue: Queue) -> None:
        with pytest.raises(BackendRejected):
            queue.publish([Message("t", "k", b"v"), Message("nowhere", "k", b"v")])
        with pytest.raises(BackendRejected):
            list(queue.browse("nowhere"))
        with pytest.raises(BackendRejected):
            queue.lag(["t", "nowhere"], "g")
        assert list(queue.browse("t")) == []

    def test_creating_a_topic_again_keeps_its_messages(self, queue: Queue) -> None:
        queue.publish(messages(10))
        queue.create(["t", "new"])
        queue.create([])
        queue.publish([Message("new", "k", b"v")])
        assert len(list(queue.browse("t"))) == 10

    def test_a_publisher_that_comes_in_at_any_moment_takes_no_place_of_another(self, queue: Queue) -> None:
        queue.publish([Message("t", "k", b"first")])
        (place,), sent = queue.ends(["t"], "k"), [b"first", b"alone"]
        for moment in moments(lambda: queue.publish([Message("t", "k", b"alone")])):
            values_ = [b"%d a" % moment, b"%d b" % moment]
            meet(moment, *(partial(queue.publish, [Message("t", "k", value)]) for value in values_))
            sent += values_
        found = [each for each in queue.browse("t") if each.partition == place.partition]
        assert [each.offset for each in found] == list(range(len(sent)))
        assert sorted(values(found)) == sorted(sent)

    def test_many_threads_publish_at_once(self, queue: Queue) -> None:
        def publish(thread: int) -> None:
            for n in range(50):
                queue.publish([Message("t", f"thread-{thread}", b"%d" % n)])

        with beside(*(partial(publish, n) for n in range(16))):
            polled = poll(queue.consumer(["t"], "g"), 16 * 50)
        assert by_key(polled) == {f"thread-{n}": [b"%d" % i for i in range(50)] for n in range(16)}
        ends = queue.ends(["t"])
        places = {(position.partition, offset) for position, end in ends.items() for offset in range(end)}
        assert sorted((each.partition, each.offset) for each in polled) == sorted(places)
