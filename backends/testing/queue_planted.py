"""What others have put into a queue, past its ``publish``, is delivered as well as it can be read.

Nothing of it stops what comes behind. The worker dead-letters it.
"""

from collections.abc import Callable

import pytest

from backends.testing.queue_driving import ends, poll, values
from coupon.ports.queue import MESSAGE_MAX, Delivery, Message, Position, Queue

Plant = Callable[[Queue, bytes | None, bytes | None], None]
"""Puts a key and a value into partition 0 of the topic t, with the driver's own means."""

PLANTED: dict[str, tuple[bytes | None, bytes | None]] = {
    "a tombstone": (b"k", None),
    "no key": (None, b"v"),
    "a key that is no text": (b"\xff\xfe\x00", b"v"),
    "half a letter": ("쿠".encode()[:2], b"v"),
    "a value that is no text": (b"k", b"\xff\xfe\x00"),
    "too large": (b"k", b"x" * (MESSAGE_MAX + 20_000)),
}


class QueuePlanted:
    """To be mixed in after ``QueueContract``, for queues that others can write to; a subclass gives ``plant``."""

    @pytest.mark.parametrize("planted", PLANTED)
    def test_what_others_wrote_is_delivered_and_stops_nothing(self, queue: Queue, plant: Plant, planted: str) -> None:
        key, value = PLANTED[planted]
        queue.publish([Message("t", "before", b"before") for _ in range(3)])
        plant(queue, key, value)
        place = Position("t", 0)
        offset = queue.ends(["t"])[place] - 1
        behind = next(name for name in map(str, range(100)) if place in queue.ends(["t"], name))
        queue.publish([Message("t", behind, b"behind")])
        consumer = queue.consumer(["t"], "g")
        polled = poll(consumer, 5)
        consumer.commit(ends(polled))
        expected = (value or b"", (key or b"").decode(errors="replace"))
        for found in (polled, queue.read(place, offset, 2), list(queue.browse("t"))):
            in_place = [each for each in found if each.partition == 0 and each.offset >= offset]
            assert values(in_place) == [expected[0], b"behind"]
            assert in_place[0].key == expected[1]
        _is_what_it_says(in_place[0])
        assert queue.lag(["t"], "g") == 0

    @pytest.mark.parametrize("planted", PLANTED)
    def test_what_others_wrote_can_be_published_again_unless_it_is_too_large(
        self, queue: Queue, plant: Plant, planted: str
    ) -> None:
        """As a dead letter is."""
        plant(queue, *PLANTED[planted])
        (found,) = queue.browse("t")
        queue.publish([Message("other", found.key, found.value[:MESSAGE_MAX])])
        assert [each.key for each in queue.browse("other")] == [found.key]


def _is_what_it_says(delivery: Delivery) -> None:
    assert [type(each) for each in delivery] == [str, int, int, str, bytes, type(None)]
