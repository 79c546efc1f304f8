"""What is owed to search and to the cache, when they answer a ping and refuse the work."""

import pytest

from coupon.applying import dead_letters
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import Kind
from coupon.domain.topics import INVALIDATE, REINDEX
from coupon.ports.queue import Message
from tests.worker.faults import Faulty


class ReadOnly(Faulty):
    """A server whose disk is full: it answers all questions, and takes nothing."""

    def __init__(self, backend, *methods):
        super().__init__(backend)
        self.methods, self.is_full = methods, False

    def _guarded(self, name, method):
        def call(*args, **kwargs):
            self.calls.append(name)
            if self.is_full and name in self.methods:
                raise BackendUnavailable("read-only")
            return method(*args, **kwargs)

        return call


def written(world, topic):
    return len(list(world.backends.queue.browse(topic)))


@pytest.fixture
def full_search(world):
    """A world whose search takes nothing while three coupons are issued, one after the other."""
    search = ReadOnly(world.backends.search, "index_many")
    world.leave()
    shaken = world.but(search=search)
    codes = shaken.coupons(3)
    search.is_full = True
    for code in codes:
        shaken.change(Kind.ISSUE, code, "ann")
        shaken.drain()
    return shaken, search, codes


def test_what_came_from_the_outbox_is_never_put_into_it_again(full_search):
    world, _, _ = full_search
    assert written(world, REINDEX) == 3
    for _ in range(300):
        world.look(world.worker)
    assert written(world, REINDEX) == 3
    assert world.backends.queue.lag([REINDEX], "worker") == 3


def test_search_that_takes_nothing_is_tried_ever_more_rarely_though_it_answers_a_ping(full_search):
    world, search, _ = full_search
    tried = []
    for second in range(60):
        search.calls.clear()
        world.look(world.worker)
        tried += [second] * search.calls.count("index_many")
    assert len(tried) <= 10
    assert tried[-1] - tried[-2] == 10


def catch_up(world, search):
    """After a minute in which search goes on taking nothing."""
    for _ in range(60):
        world.look(world.worker)
    search.is_full = False
    for _ in range(20):
        world.look(world.worker)


def test_search_that_takes_documents_again_is_caught_up_with(full_search):
    world, search, codes = full_search
    catch_up(world, search)
    assert sorted(world.documents("ann")) == sorted(codes)
    assert world.lag() == 0


@pytest.mark.logs_error("dead letter")
def test_what_is_owed_outlives_a_message_behind_it_that_nobody_can_read(full_search):
    world, search, codes = full_search
    world.backends.queue.publish([Message(REINDEX, code, b"null") for code in codes])
    catch_up(world, search)
    assert sorted(world.documents("ann")) == sorted(codes)
    assert len(list(dead_letters.browse(world.backends.queue))) == 3
    assert world.lag() == 0


def test_commands_go_on_while_search_takes_nothing_and_are_owed_once_each(full_search):
    world, _, codes = full_search
    for number in range(30):
        world.change(Kind.USE if number % 2 == 0 else Kind.CANCEL_USE, codes[0])
        world.look(world.worker)
        world.drain()
    assert world.stored(codes[0]).version == 32
    assert world.backends.queue.lag(["commands"], "worker") == 0
    assert written(world, REINDEX) <= 3 + 30


def test_a_cache_that_takes_nothing_is_owed_once(world):
    cache = ReadOnly(world.backends.cache, "replace")
    world.leave()
    shaken = world.but(cache=cache)
    code = shaken.contested()
    cache.is_full = True
    for _ in range(300):
        shaken.look(shaken.worker)
    assert written(world, INVALIDATE) == 1
    assert cache.calls.count("replace") <= 40
    cache.is_full = False
    for _ in range(20):
        shaken.look(shaken.worker)
    assert world.is_claimed(code)
    assert world.lag() == 0


@pytest.mark.logs_error("dead letter")
def test_a_message_of_the_outbox_that_the_cache_refuses_for_what_it_is_is_dead_lettered(world):
    world.backends.queue.publish([Message(INVALIDATE, "k", b'["a b"]')])
    for _ in range(5):
        world.look(world.worker)
    assert [letter.value for letter in dead_letters.browse(world.backends.queue)] == [b'["a b"]']
    assert written(world, INVALIDATE) == 1
    assert world.lag() == 0
