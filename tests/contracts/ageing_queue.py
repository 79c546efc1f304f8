"""What a queue whose members lease partitions from each other does as time goes by, on a timer that a test moves.

A subclass gives ``ageing``: one partition a topic, messages kept for 100 s once they are committed, leases of 3,000 s.
"""

from collections.abc import Callable

import pytest

from backends.queue.partitions import PRUNE_MAX
from backends.testing.queue_driving import drain, ends, messages, poll, values
from backends.testing.timing import Clock
from coupon.domain.errors import BackendUnavailable
from coupon.ports.queue import Message, Queue

TOPICS = ["t", "watched", "dead-letters"]


class AgeingQueue:
    @pytest.fixture
    def passing(self, ageing: Queue, clock: Clock) -> Callable[[float], None]:
        """Time goes by, while a member of some group is there."""
        watcher = ageing.consumer(["watched"], "watching")
        watcher.poll(1, 0)

        def passing(seconds: float) -> None:
            clock.now += seconds
            watcher.poll(1, 0)

        return passing

    def test_old_messages_that_all_groups_have_committed_are_deleted(
        self, ageing: Queue, passing: Callable[[float], None]
    ) -> None:
        one, two = ageing.consumer(["t"], "one"), ageing.consumer(["t"], "two")
        ageing.publish(messages(10))
        drain([one], 10)
        poll(two, 10)
        passing(101)
        ageing.publish([Message("t", "k", b"young")])
        drain([one], 1)
        assert len(list(ageing.browse("t"))) == 11, "the group two has committed nothing"
        two.rewind()
        drain([two], 11)
        assert [(d.offset, d.value) for d in ageing.browse("t")] == [(10, b"young")]
        assert ageing.lag(["t"], "one") == ageing.lag(["t"], "two") == 0

    def test_offsets_go_on_and_new_groups_begin_behind_what_was_deleted(
        self, ageing: Queue, passing: Callable[[float], None]
    ) -> None:
        consumer = ageing.consumer(["t"], "g")
        for value in (b"old", b"new"):
            ageing.publish([Message("t", "k", value)] * 5)
            passing(101)
            drain([consumer], 5)
        assert list(ageing.browse("t")) == []
        ageing.publish([Message("t", "k", b"last")])
        assert [d.offset for d in ageing.browse("t")] == [10]
        assert ageing.lag(["t"], "late") == 1
        assert values(poll(ageing.consumer(["t"], "late"), 1)) == [b"last"]

    def test_what_is_committed_and_young_stays_for_a_restore(
        self, ageing: Queue, passing: Callable[[float], None]
    ) -> None:
        consumer = ageing.consumer(["t"], "g")
        ageing.publish(messages(10))
        passing(99)
        drain([consumer], 10)
        assert len(list(ageing.browse("t"))) == 10

    def test_what_no_group_reads_is_kept_indefinitely(self, ageing: Queue, passing: Callable[[float], None]) -> None:
        ageing.publish([Message("dead-letters", "k", b"v"), Message("t", "k", b"v")])
        passing(1_000_000)
        drain([ageing.consumer(["t"], "g")], 1)
        assert len(list(ageing.browse("dead-letters"))) == 1

    def test_a_commit_deletes_a_bounded_number(self, ageing: Queue, passing: Callable[[float], None]) -> None:
        count = PRUNE_MAX * 2 + 1
        ageing.publish(messages(count))
        passing(101)
        consumer = ageing.consumer(["t"], "g")
        position = ends(poll(consumer, count))
        kept = []
        for _ in range(4):
            consumer.commit(position)
            kept.append(len(list(ageing.browse("t"))))
        assert kept == [PRUNE_MAX + 1, 1, 0, 0]

    def test_a_member_that_is_abandoned_loses_its_partitions(self, ageing: Queue, clock: Clock) -> None:
        """Counted from when the heir saw it first: 3,000 s by its own timer."""
        ageing.publish(messages(20))
        abandoned, heir = ageing.consumer(["t"], "g"), ageing.consumer(["t"], "g")
        in_flight = abandoned.poll(100, 0)
        clock.now += 100_000
        assert heir.poll(100, 0) == []
        clock.now += 2_999
        assert heir.poll(100, 0) == []
        clock.now += 1.1
        assert len(heir.poll(100, 0)) == len(in_flight) == 20
        with pytest.raises(BackendUnavailable):
            abandoned.commit(ends(in_flight))
        assert ageing.lag(["t"], "g") == 20
