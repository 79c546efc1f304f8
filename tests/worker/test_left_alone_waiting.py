"""Commands that wait, and whose partition is left alone before it is known what becomes of them: none may be lost."""

import json

import pytest

from backends.store.memory import MemoryStore
from coupon.applying import dead_letters
from coupon.applying.batch import RecordId
from coupon.domain.model import Kind
from coupon.domain.serialization import encode_command
from coupon.ports.queue import Message, Position
from coupon.runtime.cache_entries import cache_key
from coupon.worker import horizons
from tests.coupons import a_command
from tests.worker.conftest import a_world

ONE_PARTITION = {"COUPON_QUEUE_URL": "memory://?partitions=1"}
COMMANDS = Position("commands", 0)


@pytest.fixture
def one_partition(environ):
    yield from a_world(environ | ONE_PARTITION)


def published(world, letter):
    """A command on a coupon that was never created; its offset."""
    code = letter * 19
    offset = world.backends.queue.ends(["commands"])[COMMANDS]
    command = encode_command(a_command(Kind.ISSUE, letter.lower() * 20, code=code))
    world.backends.queue.publish([Message("commands", code, command)])
    return offset


def lost(world, offsets):
    """Of these, those that are neither a letter, nor will be delivered again."""
    queue = world.backends.queue
    dead = {letter.offset for letter in dead_letters.browse(queue) if letter.topic == "commands"}
    return {offset for offset in offsets if offset < queue.committed([COMMANDS], "worker")[COMMANDS]} - dead


@pytest.mark.logs_error("dead letter", "partition left alone")
def test_accepted_commands_are_not_lost_with_the_store(one_partition):
    world = one_partition
    codes = world.coupons(30)
    for code in codes:
        world.change(Kind.ISSUE, code, "ann")
    world.leave()
    world = world.but(store=MemoryStore())
    for _ in range(40):
        world.look(world.worker, after_ms=30_000)
    assert world.sign().left_alone
    assert len(list(dead_letters.browse(world.backends.queue))) == world.settings.dead_letters_in_a_row - 1
    assert lost(world, range(30)) == set()


@pytest.mark.logs_error("dead letter", "partition left alone")
def test_what_waited_when_its_partition_was_left_alone_is_delivered_after_a_restart(environ):
    for world in a_world(environ | ONE_PARTITION | {"COUPON_DEAD_LETTERS_IN_A_ROW": "3"}):
        offsets = [published(world, letter) for letter in "ABCDEFGH"]
        for _ in range(10):
            world.look(world.worker, after_ms=60_000)
        assert lost(world, offsets) == set()
        for _ in range(10):
            world.leave()
            worker = world.a_worker()
            for _ in range(5):
                world.look(worker, after_ms=60_000)
            assert lost(world, offsets) == set()
            world.worker = worker
        assert [letter.offset for letter in dead_letters.browse(world.backends.queue)] == offsets


@pytest.mark.logs_error("partition left alone")
def test_what_waits_in_a_partition_that_is_left_alone_goes_on_waiting_when_patience_ends(one_partition):
    world = one_partition
    offset = published(world, "A")
    world.look(world.worker)
    other = json.loads(encode_command(a_command(Kind.ISSUE, "p" * 20, code="A" * 19)))
    del other["accepted_at"]
    world.backends.queue.publish([Message("commands", "A" * 19, json.dumps(other).encode())])
    for _ in range(20):
        world.look(world.worker, after_ms=60_000)
    assert world.sign().waiting == 1
    assert lost(world, [offset]) == set()
    world.leave()
    worker = world.a_worker()
    world.look(worker)
    assert world.sign().waiting == 1


@pytest.mark.logs_error("partition left alone")
def test_what_goes_on_waiting_though_it_is_hopeless_is_not_asked_for_all_the_time(environ):
    for world in a_world(environ | ONE_PARTITION | {"COUPON_DEAD_LETTERS_IN_A_ROW": "1"}):
        published(world, "A")
        for _ in range(5):
            world.look(world.worker, after_ms=60_000)
        assert world.sign().left_alone
        world.worker.run_once()
        assert world.consumer.timeout_s > 0


@pytest.mark.logs_error("partition left alone")
def test_one_by_one_nothing_is_lost_that_waits_in_a_partition_that_is_left_alone(one_partition, monkeypatch):
    """What went wrong did so after the verdicts."""
    world = one_partition
    offsets = [published(world, letter) for letter in "AB"]
    world.look(world.worker)
    world.backends.queue.publish([Message("commands", "A", json.dumps({"kind": "issue"}).encode())])
    get = world.backends.cache.get

    def stumble(key):
        if key in {cache_key(letter * 19) for letter in "AB"}:
            raise ValueError("a bug")
        return get(key)

    monkeypatch.setattr(world.backends.cache, "get", stumble)
    for _ in range(5):
        world.look(world.worker, after_ms=60_000)
    assert world.sign().left_alone
    assert world.sign().waiting == 2
    assert lost(world, offsets) == set()


@pytest.mark.logs_error("dead letter")
def test_patience_ends_for_each_of_more_commands_than_are_remembered_beside_those_that_wait(environ, monkeypatch):
    monkeypatch.setattr(horizons, "RECORDS_MAX", 5)
    for world in a_world(environ | ONE_PARTITION | {"COUPON_DEAD_LETTERS_IN_A_ROW": "1000"}):
        for letter in "ABCDEFGHIJKLMNOPQRST":
            published(world, letter)
        for _ in range(10):
            world.look(world.worker, after_ms=60_000)
        assert len(list(dead_letters.browse(world.backends.queue))) == 20
        assert world.lag() == 0


def test_of_records_that_wait_no_longer_few_horizons_are_kept(world, monkeypatch):
    """They are delivered to others, after a rewind."""
    monkeypatch.setattr(horizons, "RECORDS_MAX", 5)
    kept = horizons.Horizons(world.backends.queue, ["commands"], lambda: world.now, dict)
    record_ids = [RecordId(COMMANDS, offset) for offset in range(20)]
    for record_id in record_ids:
        kept.start([record_id], [record_id])
    world.now += 1
    assert 1 <= sum(kept.stalled_ms(record_id) > 0 for record_id in record_ids) <= 5 + 1
