"""What every queue promises, as tests. ``QueueContract`` is for all; ``QueueAcrossProcesses`` for those whose messages
other processes see.

A subclass gives two fixtures: ``url``, a fresh and empty queue with four partitions a topic, and ``gone_url``, the same
kind of queue whose server is away.
"""

import multiprocessing
import os
import resource
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from coupon.ports.backend import BackendRejected, BackendUnavailable
from coupon.ports.queue import MESSAGE_MAX, Consumer, Delivery, Message, Position, Queue
from coupon.wiring import open_backend

PARTITIONS = 4
PATIENCE_S = 15.0
GONE_MAX_S = 5.0
"""How long any method may take to find out that its server is gone, with ``timeout_s`` at its default or lower."""
SPAWN = multiprocessing.get_context("spawn")

WHEN_GONE: dict[str, Callable[[Queue], Any]] = {
    "ping": lambda queue: queue.ping(),
    "create": lambda queue: queue.create(["t"]),
    "publish": lambda queue: queue.publish([Message("t", "k", b"v")]),
    "consumer": lambda queue: queue.consumer(["t"], "g").poll(1, 0.1),
    "browse": lambda queue: list(queue.browse("t")),
    "lag": lambda queue: queue.lag(["t"], "g"),
}


def opened(url: str) -> Queue:
    return open_backend(Queue, url)  # type: ignore[type-abstract]


def messages(count: int, topic: str = "t", keys: int = 50) -> list[Message]:
    return [Message(topic, f"key-{n % keys}", b"%d" % n) for n in range(count)]


def ends(deliveries: Iterable[Delivery]) -> dict[Position, int]:
    """What to commit after these."""
    positions: dict[Position, int] = {}
    for delivery in deliveries:
        position = Position(delivery.topic, delivery.partition)
        positions[position] = max(positions.get(position, 0), delivery.offset + 1)
    return positions


def drain(consumers: Sequence[Consumer], count: int, commit: bool = True) -> list[list[Delivery]]:
    """What each is delivered until there are ``count`` together; each poll is committed."""
    found: list[list[Delivery]] = [[] for _ in consumers]
    deadline = time.monotonic() + PATIENCE_S
    while sum(map(len, found)) < count:
        assert time.monotonic() < deadline, f"{sum(map(len, found))} of {count} messages in {PATIENCE_S} s"
        for consumer, mine in zip(consumers, found, strict=True):
            polled = consumer.poll(500, 0.1)
            if commit and polled:
                consumer.commit(ends(polled))
            mine += polled
    return found


def poll(consumer: Consumer, count: int) -> list[Delivery]:
    return drain([consumer], count, commit=False)[0]


def share_out(queue: Queue, one: Consumer, two: Consumer) -> list[list[Delivery]]:
    """What both are delivered, of many small publishes, until each has its share."""
    found: list[list[Delivery]] = [[], []]
    for settled in range(3):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert time.monotonic() < deadline, f"one of them gets nothing ({settled})"
            queue.publish(messages(50))
            polled = drain([one, two], 50)
            found = [mine + new for mine, new in zip(found, polled, strict=True)]
            if polled[0] and polled[1]:
                break
    return found


def values(deliveries: Iterable[Delivery]) -> list[bytes]:
    return [delivery.value for delivery in deliveries]


def by_key(deliveries: Iterable[Delivery | Message]) -> dict[str, list[bytes]]:
    values: dict[str, list[bytes]] = {}
    for delivery in deliveries:
        values.setdefault(delivery.key, []).append(delivery.value)
    return values


class QueueContract:
    @pytest.fixture
    def queue(self, url: str) -> Iterator[Queue]:
        queue = opened(url)
        queue.create(["t", "other"])
        yield queue
        queue.close()

    @pytest.fixture
    def gone(self, gone_url: str) -> Iterator[Queue]:
        queue = opened(gone_url)
        yield queue
        queue.close()

    def test_it_answers_a_ping(self, queue: Queue) -> None:
        queue.ping()

    def test_what_was_published_is_delivered_as_it_was(self, queue: Queue) -> None:
        sent = [
            Message("t", "", b""),
            Message("t", "쿠폰-ü-🎟", b"\x00\xff\n"),
            Message("t", "k" * 200, "값".encode()),
            Message("other", "k", b"v"),
        ]
        queue.publish(sent)
        deliveries = poll(queue.consumer(["t", "other"], "g"), 4)
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
        consumer = queue.consumer(["t"], "g")
        for timeout_s in (0.0, 0.3):
            began = time.monotonic()
            assert consumer.poll(10, timeout_s) == []
            assert time.monotonic() - began < timeout_s + 1.0

    def test_polls_that_hardly_wait_get_there_too(self, queue: Queue) -> None:
        queue.publish(messages(50))
        for group in range(8):
            consumer = queue.consumer(["t"], f"group-{group}")
            found, deadline = 0, time.monotonic() + PATIENCE_S
            while found < 50:
                assert time.monotonic() < deadline, f"{found} of 50 messages"
                found += len(consumer.poll(500, 0.005))
                time.sleep(0.02)  # at work on something else
            consumer.close()

    def test_what_was_not_committed_is_delivered_again_after_a_rewind(self, queue: Queue) -> None:
        queue.publish(messages(100))
        consumer = queue.consumer(["t"], "g")
        first = poll(consumer, 100)
        consumer.rewind()
        assert by_key(poll(consumer, 100)) == by_key(first)
        consumer.rewind()
        consumer.rewind()
        assert by_key(poll(consumer, 100)) == by_key(first)

    def test_a_rewind_begins_behind_what_was_committed(self, queue: Queue) -> None:
        queue.publish([Message("t", "k", b"%d" % n) for n in range(10)])
        consumer = queue.consumer(["t"], "g")
        deliveries = poll(consumer, 10)
        consumer.commit(ends(deliveries[:4]))
        consumer.rewind()
        assert values(poll(consumer, 6)) == [b"%d" % n for n in range(4, 10)]

    def test_what_was_not_committed_is_delivered_again_to_who_comes_after(self, queue: Queue) -> None:
        queue.publish(messages(100))
        first = queue.consumer(["t"], "g")
        poll(first, 100)
        first.close()
        assert by_key(poll(queue.consumer(["t"], "g"), 100)) == by_key(messages(100))

    def test_what_was_committed_is_not_delivered_again(self, queue: Queue) -> None:
        queue.publish(messages(100))
        first = queue.consumer(["t"], "g")
        drain([first], 100)
        first.rewind()
        assert first.poll(10, 0.3) == []
        first.close()
        queue.publish([Message("t", "k", b"new")])
        assert values(poll(queue.consumer(["t"], "g"), 1)) == [b"new"]

    def test_committing_the_same_again_changes_nothing(self, queue: Queue) -> None:
        queue.publish(messages(20))
        consumer = queue.consumer(["t"], "g")
        deliveries = poll(consumer, 20)
        consumer.commit(ends(deliveries))
        consumer.commit(ends(deliveries))
        consumer.commit({})
        assert queue.lag(["t"], "g") == 0

    def test_what_was_not_delivered_cannot_be_committed(self, queue: Queue) -> None:
        queue.publish([Message("t", "k", b"v")])
        consumer = queue.consumer(["t"], "g")
        (delivery,) = poll(consumer, 1)
        for offset in (2, 100):
            with pytest.raises(BackendUnavailable):
                consumer.commit({Position("t", delivery.partition): offset})
        with pytest.raises(BackendUnavailable):
            consumer.commit({Position("t", (delivery.partition + 1) % PARTITIONS): 1})
        assert queue.lag(["t"], "g") == 1

    def test_a_commit_is_refused_as_a_whole(self, queue: Queue) -> None:
        queue.publish([Message("t", "k", b"v")])
        consumer = queue.consumer(["t"], "g")
        good = ends(poll(consumer, 1))
        with pytest.raises(BackendUnavailable):
            consumer.commit(good | {Position("other", 0): 5})
        assert queue.lag(["t"], "g") == 1

    def test_two_members_share_the_partitions_and_deliver_each_message_once(self, queue: Queue) -> None:
        one, two = queue.consumer(["t"], "g"), queue.consumer(["t"], "g")
        shares = share_out(queue, one, two)
        assert max(Counter((d.partition, d.offset) for d in shares[0] + shares[1]).values()) == 1
        queue.publish(messages(200))
        mine, others = drain([one, two], 200)
        assert len({d.partition for d in mine}) == len({d.partition for d in others}) == PARTITIONS / 2
        assert by_key(mine + others) == by_key(messages(200))

    def test_who_closes_hands_its_partitions_over(self, queue: Queue) -> None:
        one, two = queue.consumer(["t"], "g"), queue.consumer(["t"], "g")
        share_out(queue, one, two)
        queue.publish(messages(100))
        assert one.poll(500, PATIENCE_S), "in hand, and never committed"
        one.close()
        assert by_key(drain([two], 100)[0]) == by_key(messages(100))

    def test_who_lost_a_partition_cannot_commit_it_nor_take_its_group_back_later(self, queue: Queue) -> None:
        queue.publish([Message("t", f"key-{n % 20}", b"old") for n in range(40)])
        one, two = queue.consumer(["t"], "g"), queue.consumer(["t"], "g")
        old = poll(one, 40)
        while not (moved := two.poll(500, 0.1)):
            one.poll(500, 0.1)
        position, end = next(iter(ends(moved).items()))
        with pytest.raises(BackendUnavailable):
            one.commit({position: ends(old)[position]})
        two.commit({position: end})
        two.close()
        key = next(delivery.key for delivery in old if delivery.partition == position.partition)
        queue.publish([Message("t", key, b"new")])
        while b"new" not in values(one.poll(500, 0.1)):
            pass
        with pytest.raises(BackendUnavailable):
            one.commit({position: end - 1})
        one.commit({position: end + 1})

    def test_paused_topics_are_left_alone_until_they_are_resumed(self, queue: Queue) -> None:
        consumer = queue.consumer(["t", "other"], "g")
        consumer.pause(["other"])
        queue.publish([Message("t", "k", b"1"), Message("other", "k", b"2")])
        assert values(poll(consumer, 1)) == [b"1"]
        assert consumer.poll(10, 0.5) == []
        consumer.pause(["t"])
        assert values(poll(consumer, 1)) == [b"2"]
        queue.publish([Message("t", "k", b"3")])
        assert consumer.poll(10, 0.5) == []
        consumer.pause([])
        assert values(poll(consumer, 1)) == [b"3"]

    def test_a_new_group_begins_at_the_oldest_message(self, queue: Queue) -> None:
        queue.publish(messages(50))
        drain([queue.consumer(["t"], "g")], 50)
        assert len(poll(queue.consumer(["t"], "another"), 50)) == 50
        assert (queue.lag(["t"], "g"), queue.lag(["t"], "another")) == (0, 50)

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

    def test_many_threads_publish_at_once(self, queue: Queue) -> None:
        def publish(thread: int) -> None:
            for n in range(50):
                queue.publish([Message("t", f"thread-{thread}", b"%d" % n)])

        threads = [threading.Thread(target=publish, args=[n]) for n in range(16)]
        for thread in threads:
            thread.start()
        found = by_key(poll(queue.consumer(["t"], "g"), 16 * 50))
        for thread in threads:
            thread.join()
        assert found == {f"thread-{n}": [b"%d" % i for i in range(50)] for n in range(16)}

    def test_every_method_is_asked_when_the_server_is_gone(self) -> None:
        assert {*WHEN_GONE, "from_url", "close"} == set(Queue.__abstractmethods__)

    @pytest.mark.parametrize("method", WHEN_GONE)
    def test_without_its_server_every_method_says_so_in_time(self, gone: Queue, method: str) -> None:
        began = time.monotonic()
        with pytest.raises(BackendUnavailable):
            WHEN_GONE[method](gone)
        assert time.monotonic() - began < (1.5 if method == "ping" else GONE_MAX_S)

    def test_without_its_server_a_consumer_does_what_needs_none_and_closes_at_once(self, gone: Queue) -> None:
        consumer = gone.consumer(["t"], "g")
        consumer.pause(["t"])
        consumer.rewind()
        with pytest.raises(BackendUnavailable):
            consumer.commit({Position("t", 0): 1})
        with pytest.raises(BackendUnavailable):
            consumer.poll(1, 0)
        began = time.monotonic()
        consumer.close()
        assert time.monotonic() - began < 2

    @pytest.mark.parametrize("method", WHEN_GONE)
    def test_after_close_every_method_says_that_it_is_unavailable(self, queue: Queue, method: str) -> None:
        queue.publish([Message("t", "k", b"v")])
        queue.close()
        queue.close()
        with pytest.raises(BackendUnavailable):
            WHEN_GONE[method](queue)

    def test_a_closed_consumer_says_so(self, queue: Queue) -> None:
        queue.publish([Message("t", "k", b"v")])
        consumer = queue.consumer(["t"], "g")
        deliveries = poll(consumer, 1)
        consumer.close()
        consumer.close()
        consumer.rewind()
        with pytest.raises(BackendUnavailable):
            consumer.poll(1, 0)
        with pytest.raises(BackendUnavailable):
            consumer.commit(ends(deliveries))


class QueueAcrossProcesses:
    """To be mixed in after ``QueueContract``, whose ``queue`` it takes. ``hand_over_s``: how long the partitions of a
    member that died may be without an owner."""

    hand_over_s = 12.0

    def test_what_a_process_published_before_it_was_killed_is_there(self, queue: Queue, url: str) -> None:
        with another_process(publish_and_wait, url, "key", 100) as (process, pipe):
            assert pipe.recv() == 100
            os.kill(process.pid, signal.SIGKILL)
        assert values(queue.browse("t")) == [b"%d" % n for n in range(100)]

    def test_processes_publish_at_once_and_one_consumes_each_key_in_order(self, queue: Queue, url: str) -> None:
        with another_process(publish_and_wait, url, "a", 400), another_process(publish_and_wait, url, "b", 400):
            found = by_key(drain([queue.consumer(["t"], "g")], 800)[0])
        assert found == {key: [b"%d" % n for n in range(400)] for key in "ab"}

    def test_a_killed_member_hands_its_partitions_over(self, queue: Queue, url: str) -> None:
        queue.publish(messages(100))
        with another_process(poll_and_commit, url) as (process, pipe):
            assert pipe.recv() == 100
            os.kill(process.pid, signal.SIGKILL)
            killed = time.monotonic()
            assert by_key(drain([queue.consumer(["t"], "g")], 100)[0]) == by_key(messages(100))
        assert time.monotonic() - killed < self.hand_over_s

    def test_who_slept_while_others_took_over_cannot_commit(self, queue: Queue, url: str) -> None:
        queue.publish(messages(100))
        with another_process(poll_and_commit, url) as (process, pipe):
            assert pipe.recv() == 100
            os.kill(process.pid, signal.SIGSTOP)
            consumer = queue.consumer(["t"], "g")
            assert by_key(poll(consumer, 100)) == by_key(messages(100))
            os.kill(process.pid, signal.SIGCONT)
            pipe.send("commit")
            assert pipe.recv() == "refused"
            assert queue.lag(["t"], "g") == 100
            consumer.rewind()
            assert by_key(poll(consumer, 100)) == by_key(messages(100))

    def test_a_queue_that_was_used_before_a_fork_works_on_both_sides(self, queue: Queue) -> None:
        queue.publish([Message("t", "k", b"parent")])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads: that is what is tested
            child = os.fork()
        if not child:
            try:
                queue.publish([Message("t", "k", b"child")])
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        queue.publish([Message("t", "k", b"parent")])
        assert values(queue.browse("t")) == [b"parent", b"child", b"parent"]

    def test_a_backlog_of_any_size_is_read_in_flat_memory(self, queue: Queue, url: str) -> None:
        for n in range(15):
            queue.publish([Message("t", f"key-{n}-{i}", os.urandom(MESSAGE_MAX)) for i in range(10)])
        with another_process(read_all, url, 150) as (_, pipe):
            assert pipe.recv() < 130, "MB"

    def test_a_long_batch_costs_no_partitions(self, queue: Queue, url: str) -> None:
        queue.publish(messages(100))
        consumer = queue.consumer(["t"], "g")
        in_hand = poll(consumer, 100)
        with another_process(poll_and_commit, url) as (_, pipe):
            assert not pipe.poll(8), "its lease is over, though it lives"
            consumer.commit(ends(in_hand))


@contextmanager
def another_process(work: Callable[..., None], *args: Any) -> Iterator[tuple[Any, Any]]:
    """A process that does the work, given one end of a pipe; killed at the end."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=work, args=(theirs, *args), daemon=True)
    process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()


def publish_and_wait(pipe: Any, url: str, key: str, count: int) -> None:
    queue = opened(url)
    for n in range(count):
        queue.publish([Message("t", key, b"%d" % n)])
    pipe.send(count)
    pipe.recv()


def read_all(pipe: Any, url: str, count: int) -> None:
    """Read all as a member and by browsing; the most memory that this process ever had, in MB."""
    queue = opened(url)
    consumer, polled = queue.consumer(["t"], "g"), 0
    while polled < count:
        polled += len(consumer.poll(500, PATIENCE_S))
    assert sum(1 for _ in queue.browse("t")) == count
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def poll_and_commit(pipe: Any, url: str) -> None:
    """Poll 100 messages; commit them when told to."""
    consumer = opened(url).consumer(["t"], "g")
    deliveries = poll(consumer, 100)
    pipe.send(len(deliveries))
    pipe.recv()
    try:
        consumer.commit(ends(deliveries))
    except BackendUnavailable:
        pipe.send("refused")
    else:
        pipe.send("committed")
