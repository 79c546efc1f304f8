"""Thousands of commands wait, on the embedded files, because they are delivered before the creations that they need.

That may happen when an empty store is recreated from the queue.
"""

import pytest

from coupon.applying import dead_letters
from coupon.domain.codes import LENGTH
from coupon.domain.model import CHUNK, Kind
from coupon.domain.serialization import encode_command
from coupon.domain.topics import CREATION, LAYOUTS, command_topics
from coupon.ports.queue import Message
from tests.coupons import a_command, a_creation
from tests.worker.conftest import a_world

COUPONS = 1_000
CHAIN = (Kind.ISSUE, Kind.USE, Kind.CANCEL_USE, Kind.CANCEL)


def commands(code):
    """A chain of four on one coupon."""
    operations = ["birth", *(f"{kind}-{code}" for kind in CHAIN)]
    return [a_command(kind, operations[n + 1], operations[n], n + 1, code=code) for n, kind in enumerate(CHAIN)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_thousands_of_commands_wait_for_creations_that_come_last(environ, tmp_path, layout):
    files = {f"COUPON_{role}_URL": f"sqlite:///{tmp_path}/{role}.db" for role in ("CACHE", "QUEUE", "STORE", "SEARCH")}
    for world in a_world({**environ, **files, "COUPON_TOPICS": layout, "COUPON_DEAD_LETTERS_IN_A_ROW": "2"}):
        codes = [f"{number:0{LENGTH}}" for number in range(COUPONS)]
        queue, topics = world.backends.queue, LAYOUTS[layout]
        for first in range(0, COUPONS, CHUNK):
            chunk = tuple(codes[first : first + CHUNK])
            creation = a_creation(amount=COUPONS, first=first, size=len(chunk), codes=chunk)
            queue.publish([Message(CREATION, str(first), encode_command(creation))])
        queue.publish(
            [
                Message(topics[command.kind], code, encode_command(command))
                for code in codes
                for command in commands(code)
            ]
        )
        world.leave()
        worker = world.a_worker(*[topic for topic in command_topics(layout) if topic != CREATION])
        for _ in range(30):
            world.look(worker)
        assert world.backends.store.scan(10).coupons == []
        creating = world.a_worker(CREATION)
        for _ in range(200):
            world.look(creating, worker, after_ms=500)
            if queue.lag(command_topics(layout), "worker") == 0:
                break
        stored = world.backends.store.get_many(codes)
        assert {(stored[code].version, stored[code].rejections) for code in codes} == {(1 + len(CHAIN), ())}
        assert list(dead_letters.browse(queue)) == []
