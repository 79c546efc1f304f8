"""A coupon that is there at last while its commands are looked at, some before and some after."""

from typing import Any

import pytest

from coupon.applying import dead_letters
from coupon.applying.batch import COMMANDS_A_COUPON_MAX
from coupon.domain.codes import LENGTH
from coupon.domain.model import ChangeCoupon, CreateCoupons, Kind, create
from coupon.domain.serialization import encode_command
from coupon.ports.queue import Message
from tests.coupons import a_command, a_creation
from tests.worker.conftest import a_world
from tests.worker.faults import Faulty

CODE = "B" * LENGTH
BIRTH = a_creation(codes=(CODE,))
OPERATIONS = [f"o{number}" for number in range(COMMANDS_A_COUPON_MAX + 10)]


def chain() -> list[ChangeCoupon]:
    """More commands than are applied in one write."""
    return [
        a_command(Kind.CANCEL if number % 2 else Kind.ISSUE, operation, previous, number + 1, code=CODE)
        for number, (operation, previous) in enumerate(zip(OPERATIONS, ["birth", *OPERATIONS], strict=False))
    ]


class ComesBetween(Faulty):
    """A store that has a coupon from the ``reads``-th question for it on."""

    def __init__(self, store: Any, reads: int) -> None:
        super().__init__(store)
        self._store, self._reads = store, reads

    def get_many(self, codes: Any) -> Any:
        codes = list(codes)
        self._reads -= CODE in codes
        if self._reads == 0:
            self._store.save_many([create(BIRTH, CODE)])
        return self._store.get_many(codes)


def publish(world, *commands: ChangeCoupon | CreateCoupons) -> None:
    topics = [("creation" if isinstance(command, CreateCoupons) else "commands") for command in commands]
    messages = [Message(topic, CODE, encode_command(c)) for topic, c in zip(topics, commands, strict=True)]
    world.backends.queue.publish(messages)


@pytest.mark.logs_error("dead letter")
def test_what_waits_behind_another_is_not_rejected_when_the_coupon_comes_before_it_is_looked_at(environ):
    """The first command is dead-lettered, since its coupon did not come, and the next ones wait. Then the coupon comes,
    and at last an operator replays the letters."""
    first, *others = chain()
    for world in a_world(environ):
        world = world.but(store=ComesBetween(world.backends.store, reads=4))
        worker = world.a_worker("commands")
        publish(world, first)
        world.look(worker)
        publish(world, BIRTH, *others)
        for _ in range(10):
            world.look(worker)
        dead = list(dead_letters.browse(world.backends.queue))
        assert world.stored(CODE).rejections == ()
        assert len(dead) == len(OPERATIONS)
        dead_letters.replay(world.backends.queue, dead)
        for _ in range(10):
            world.look(worker)
        assert [entry.operation for entry in world.stored(CODE).history] == ["birth", *OPERATIONS]
