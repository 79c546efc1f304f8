"""Where the queue no longer reaches back, a restore says from when on a backup is young enough."""

import pytest

from coupon.bulk.queue_history import Recorded
from coupon.bulk.queue_reach import CLOCKS_MS, backup_needed_from
from coupon.domain.model import Kind
from coupon.domain.topics import CREATION, DEAD_LETTERS, LAYOUTS, REJECTIONS, all_topics
from coupon.ports.queue import Message, Position
from tests.worker.conftest import a_world

MANY_LETTERS = {"COUPON_DEAD_LETTERS_IN_A_ROW": "1000"}


@pytest.fixture(params=["single", "per-command"])
def shop(request, environ):
    yield from a_world(
        {**environ, "COUPON_TOPICS": request.param, "COUPON_QUEUE_URL": "memory://?partitions=1", **MANY_LETTERS}
    )


def recorded(world):
    return Recorded(world.backends.queue, all_topics(world.settings.topics))


def needed(world):
    found = recorded(world)
    assert found.trimmed()
    return backup_needed_from(world.backends.queue, found)


def a_minute_each(world, count):
    """An issue a minute; their topic."""
    for code in world.coupons(count):
        world.now += 60_000
        world.change(Kind.ISSUE, code, "ann")
    world.drain()
    return "issue" if world.settings.topics == "per-command" else "commands"


def test_a_queue_that_has_everything_needs_no_backup(shop):
    a_minute_each(shop, 3)
    assert recorded(shop).trimmed() == []


def test_a_backup_is_needed_that_is_as_young_as_the_oldest_message_that_is_left(shop):
    began = shop.now
    topic = a_minute_each(shop, 5)
    shop.backends.queue.beneath.trim(Position(topic, 0), 2)
    assert needed(shop) == began + 3 * 60_000 + CLOCKS_MS


def test_the_youngest_of_all_oldest_messages_counts(shop):
    began = shop.now
    topic = a_minute_each(shop, 5)
    shop.coupons()
    shop.backends.queue.beneath.trim(Position(topic, 0), 1)
    shop.backends.queue.beneath.trim(Position(CREATION, 0), 1)
    assert needed(shop) == began + 5 * 60_000 + CLOCKS_MS


def test_of_a_partition_of_which_nothing_is_left_the_others_tell(shop):
    began = shop.now
    topic = a_minute_each(shop, 5)
    shop.backends.queue.beneath.trim(Position(CREATION, 0), 1)
    assert needed(shop) == began + 60_000 + CLOCKS_MS
    shop.backends.queue.beneath.trim(Position(topic, 0), 5)
    assert needed(shop) == 0


@pytest.mark.logs_error("dead letter")
def test_what_cannot_be_read_tells_nothing(shop):
    (code,) = shop.coupons()
    topic = LAYOUTS[shop.settings.topics][Kind.ISSUE]
    shop.backends.queue.publish([Message(topic, "k", b"[")] * 250)
    shop.backends.queue.publish([Message(DEAD_LETTERS, "k", b'{"at":"x"}'), Message(DEAD_LETTERS, "k", b'{"at":1e17}')])
    shop.now += 60_000
    shop.change(Kind.ISSUE, code, "ann")
    shop.backends.queue.beneath.trim(Position(topic, 0), 1)
    assert needed(shop) == shop.now + CLOCKS_MS
    shop.backends.queue.beneath.trim(Position(DEAD_LETTERS, 0), 1)
    assert needed(shop) == shop.now + CLOCKS_MS


def test_the_losers_have_to_reach_as_far_as_the_commands(environ):
    for world in a_world({**environ, "COUPON_TOPICS": "per-command", "COUPON_QUEUE_URL": "memory://?partitions=1"}):
        (code,) = world.coupons()
        for _ in range(3):
            world.now += 60_000
            world.rival(Kind.ISSUE, code, "ann")
        world.drain()
        world.backends.queue.beneath.trim(Position(REJECTIONS, 0), 1)
        assert needed(world) == world.now + CLOCKS_MS
