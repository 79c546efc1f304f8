"""What every queue promises to the members of a group: shares, commits, rewinds, pauses."""

import threading
import time
from collections import Counter

import pytest

from backends.testing.queue_driving import (
    PATIENCE_S,
    by_key,
    drain,
    ends,
    messages,
    places_once_even,
    poll,
    share_out,
    shares_of,
    values,
)
from backends.testing.threads import together
from coupon.domain.errors import BackendUnavailable
from coupon.ports.queue import Delivery, Message, Position, Queue

PARTITIONS = 4


class QueueGroups:
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

    def test_of_members_that_join_at_once_one_commits_each_message(self, queue: Queue) -> None:
        """What a member could not commit is left to whoever has the partition then."""
        queue.publish(messages(400))
        committed = list[tuple[int, int]]()

        def work(_: int, barrier: threading.Barrier) -> None:
            consumer = queue.consumer(["t"], "g")
            barrier.wait()
            deadline = time.monotonic() + PATIENCE_S
            while queue.lag(["t"], "g") and time.monotonic() < deadline:
                try:
                    polled = consumer.poll(20, 0.1)
                    consumer.commit(ends(polled))
                except BackendUnavailable:
                    consumer.rewind()
                else:
                    committed.extend((each.partition, each.offset) for each in polled)
            consumer.close()

        together(4, work)
        assert queue.lag(["t"], "g") == 0
        assert [place for place, times in Counter(committed).items() if times > 1] == []

    def test_each_topic_is_shared_out_by_itself(self, queue: Queue) -> None:
        """Whoever has all of one topic and nothing of another does all the work there is, or none."""
        topics = ["t", "other"]
        group = [queue.consumer(topics, "g")]
        for _ in range(2):
            places_once_even(queue, group, topics)
            group.append(queue.consumer(topics, "g"))
        places = places_once_even(queue, group, topics)
        assert [sorted(shares_of(topic, places)) for topic in topics] == [[1, 1, 2], [1, 1, 2]]
        group.pop(0).close()
        places = places_once_even(queue, group, topics)
        assert [shares_of(topic, places) for topic in topics] == [[2, 2], [2, 2]]

    def test_a_rewind_after_another_member_joined_skips_nothing(self, queue: Queue) -> None:
        """Of the partitions that stay as of those that move, nothing was committed."""
        queue.publish(messages(100))
        one, two = queue.consumer(["t"], "g"), queue.consumer(["t"], "g")
        poll(one, 100)
        moved: list[Delivery] = []
        while not moved:
            one.poll(500, 0.1)
            moved = two.poll(500, 0.1)
        one.rewind()
        found, deadline = moved, time.monotonic() + PATIENCE_S
        while set(values(found)) != {message.value for message in messages(100)}:
            assert time.monotonic() < deadline, f"{len(set(values(found)))} of 100 messages"
            found += one.poll(500, 0.1) + two.poll(500, 0.1)

    def test_who_closes_hands_its_partitions_over(self, queue: Queue) -> None:
        one, two = queue.consumer(["t"], "g"), queue.consumer(["t"], "g")
        share_out(queue, one, two)
        queue.publish(messages(100))
        assert one.poll(500, PATIENCE_S), "in flight, and never committed"
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

    def test_a_topic_that_was_paused_half_way_goes_on_where_it_was(self, queue: Queue) -> None:
        consumer = queue.consumer(["t", "other"], "g")
        queue.publish([Message("other", "k", b"%d" % number) for number in range(10)])
        first = poll(consumer, 3, at_once=3)
        consumer.pause(["other"])
        assert consumer.poll(10, 0.5) == []
        queue.publish([Message("t", "k", b"t")])
        assert values(poll(consumer, 1)) == [b"t"]
        consumer.pause([])
        assert values([*first, *poll(consumer, 10 - len(first))]) == [b"%d" % number for number in range(10)]

    def test_a_paused_partition_leaves_the_others_of_its_topic_alone(self, queue: Queue) -> None:
        consumer = queue.consumer(["t"], "g")
        queue.publish(messages(50))
        paused = {Position(d.topic, d.partition) for d in poll(consumer, 50)[:1]}
        consumer.pause(paused)
        queue.publish(messages(50))
        expected = [d for d in queue.browse("t") if Position(d.topic, d.partition) not in paused]
        assert {Position(d.topic, d.partition) for d in poll(consumer, len(expected) // 2)}.isdisjoint(paused)
        assert consumer.poll(10, 0.5) == []
        consumer.pause([])
        assert {Position(d.topic, d.partition) for d in poll(consumer, 50 - len(expected) // 2)} == paused

    def test_a_new_group_begins_at_the_oldest_message(self, queue: Queue) -> None:
        queue.publish(messages(50))
        drain([queue.consumer(["t"], "g")], 50)
        assert len(poll(queue.consumer(["t"], "another"), 50)) == 50
        assert (queue.lag(["t"], "g"), queue.lag(["t"], "another")) == (0, 50)
