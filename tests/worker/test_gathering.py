"""A busy worker waits for more messages before it polls, and an idle one does not."""

import pytest

from coupon.domain.model import Kind
from coupon.worker.worker import BUSY, GATHER_S


class Stop:
    """A worker's stop event, which is set when all is done, and a batch later. It writes down what the worker waits."""

    def __init__(self, world) -> None:
        self.waited: list[float] = []
        self._world, self._idle = world, 0

    def is_set(self) -> bool:
        self._idle += self._world.lag() == 0
        return self._idle > 4

    def wait(self, timeout: float) -> bool:
        self.waited.append(timeout)
        return False


@pytest.mark.parametrize(("number", "waited"), [(0, []), (BUSY - 1, []), (BUSY, [GATHER_S])])
def test_after_a_batch_of_some_it_gathers_more(world, number, waited):
    for code in world.coupons(BUSY)[:number]:
        world.change(Kind.ISSUE, code, "ann")
    stop = Stop(world)
    world.worker.run(stop)
    assert stop.waited == waited


@pytest.mark.parametrize(("size", "waited"), [(2 * BUSY - 1, [GATHER_S]), (2 * BUSY, [])])
def test_after_an_eighth_of_the_most_it_polls_at_once(world, size, waited):
    """A backlog gives no more at a poll, when most of the partitions are empty."""
    codes = world.coupons(2 * BUSY)
    world.consumers.pop(world.worker).close()
    worker = world.a_worker(batch_max=16 * BUSY)
    for code in codes[:size]:
        world.change(Kind.ISSUE, code, "ann")
    stop = Stop(world)
    worker.run(stop)
    assert stop.waited == waited
