"""Workers' signs in the cache: what others write there is not believed, nor what cannot be."""

import json

import msgspec
import pytest

from coupon.applying import dead_letters
from coupon.domain.codes import CodeDeriver
from coupon.domain.model import Kind
from coupon.domain.serialization import encode_command
from coupon.ports.queue import Message
from coupon.runtime.worker_registry import Sign, living, publish_sign
from tests.coupons import a_command
from tests.worker.conftest import FIRST, LAST, SHOP, a_world

NAME = "worker:another:1:1"


def a_sign(**delivered):
    return Sign(
        host="another",
        pid=1,
        version="1",
        topics=["commands"],
        at=0,
        works=True,
        delivered={f"{topic}/0": offset for topic, offset in delivered.items()},
    )


@pytest.fixture
def one_partition(environ):
    yield from a_world({**environ, "COUPON_QUEUE_URL": "memory://?partitions=1"})


@pytest.fixture
def early(one_partition):
    """A world in which nobody has applied the creation, but a worker waits with a command on its coupon."""
    world = one_partition
    world.leave()
    world.consumers.clear()
    world.worker = world.a_worker("commands")
    address = world.service.create(1, FIRST, LAST, SHOP)
    (code,) = world.service.codes(address, 0, 1)
    command = a_command(Kind.ISSUE, "o" * 20, previous=address.operation, code=code)
    world.backends.queue.publish([Message("commands", code, encode_command(command))])
    world.look(world.worker)
    return world, code


def look_five_times(world):
    for _ in range(5):
        world.look(world.worker)
    return list(dead_letters.browse(world.backends.queue))


@pytest.mark.parametrize("secret", [None, "another secret of the tests"])
def test_a_planted_sign_puts_no_accepted_command_aside(early, secret):
    world, code = early
    cache, sign = world.backends.cache, a_sign(creation=1, commands=1)
    if secret is None:
        cache.put("workers", json.dumps([NAME]).encode(), 86_400)
        cache.put(NAME, msgspec.json.encode(sign), 86_400)
    else:
        cache.delete_many(["workers"])
        publish_sign(cache, CodeDeriver(secret), NAME, sign)
    assert NAME not in living(cache, world.service.code_deriver)
    assert look_five_times(world) == []
    world.a_worker("creation").run_once(poll_s=0)
    world.look(world.worker)
    world.drain()
    assert world.stored(code).issued


def test_a_sign_of_another_name_is_none(early):
    world, _ = early
    cache = world.backends.cache
    publish_sign(cache, world.service.code_deriver, NAME, a_sign(creation=1))
    publish_sign(cache, world.service.code_deriver, "worker:third:1:1", a_sign())
    cache.put("worker:third:1:1", cache.get(NAME).value, 86_400)
    assert "worker:third:1:1" not in living(cache, world.service.code_deriver)


def test_no_worker_is_believed_to_have_got_what_is_not_there(early):
    """Its topic was recreated, for one."""
    world, _ = early
    publish_sign(world.backends.cache, world.service.code_deriver, NAME, a_sign(creation=2, commands=1))
    assert look_five_times(world) == []


@pytest.mark.logs_error("dead letter")
def test_a_worker_is_believed_what_it_got(early):
    world, _ = early
    publish_sign(world.backends.cache, world.service.code_deriver, NAME, a_sign(creation=1, commands=1))
    assert [letter.reason for letter in look_five_times(world)] == ["the store has no such coupon"]
