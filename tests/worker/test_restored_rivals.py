"""A restore gives a coupon to the rival who had it, though another one was accepted before."""

from threading import Event

from backends.store.memory import MemoryStore
from coupon.acceptance.operations import Status
from coupon.domain.model import Kind
from coupon.worker.worker import Worker
from tests.worker.restored import differences, restore


def leave(worker: Worker) -> None:
    """It gives its partitions to others."""
    stop = Event()
    stop.set()
    worker.run(stop)


def test_who_was_accepted_first_and_came_last_does_not_win_in_a_restore(per_command):
    """Each command has a topic of its own, and the cancels are behind."""
    world = per_command
    (code,) = world.coupons()
    world.change(Kind.ISSUE, code, "ann")
    world.drain()
    lost = world.rival(Kind.CANCEL, code)
    world.now += 1_000
    won = world.rival(Kind.USE, code)
    leave(world.worker)
    for topic in ("use", "cancel"):
        world.drain(world.a_worker(topic))
    outcomes = [world.service.operations.outcome(attempt).status for attempt in (won, lost)]
    assert outcomes == [Status.APPLIED, Status.REJECTED]
    store = MemoryStore()
    restore(world.backends, world.settings, store)
    assert differences(world.backends.store, store) == {}
