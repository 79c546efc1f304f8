"""A restore in single cases: long lives, dead letters, what is not committed, other secrets and layouts, old data."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from backends.store.memory import MemoryStore
from coupon.applying import dead_letters
from coupon.applying.lost_attempts import browse_losers
from coupon.domain.errors import BackendRejected
from coupon.domain.model import HISTORY_MAX, REJECTIONS_MAX, CreateCoupons, Kind, transition
from coupon.domain.serialization import dump, encode_command
from coupon.domain.topics import CREATION, LAYOUTS, command_topics
from coupon.ports.queue import Message
from tests.coupons import NOW, a_command, a_creation
from tests.worker.conftest import World, a_world
from tests.worker.faults import Faulty
from tests.worker.restored import coupons_of, differences, restore


@pytest.fixture(params=["single", "per-command"])
def shop(request, environ):
    yield from a_world({**environ, "COUPON_TOPICS": request.param})


class Shop:
    """Short words for tests of single cases."""

    def __init__(self, world):
        self.world, self.queue = world, world.backends.queue
        self.topics = LAYOUTS[world.settings.topics]

    def publish(self, *commands, topic=None):
        self.queue.publish([self.message(command, topic) for command in commands])

    def message(self, command, topic=None):
        if isinstance(command, CreateCoupons):
            return Message(topic or CREATION, command.operation, encode_command(command))
        return Message(topic or self.topics[command.kind], command.code, encode_command(command))

    def drain(self):
        for _ in range(60):
            self.world.now += 60_000
            self.world.worker.run_once(poll_s=0)

    def restored(self, settings=None):
        """Counts, and what differs."""
        store = MemoryStore()
        counts = restore(self.world.backends, settings or self.world.settings, store)
        return counts, differences(self.world.backends.store, store)


@pytest.fixture
def house(shop):
    return Shop(shop)


def chain(coupon, kinds, number=None, **changes):
    """Commands that are built one on the other, and what they make."""
    commands = []
    for index, kind in enumerate(kinds):
        command = a_command(
            kind,
            f"{kind:.2}{index:04d}".ljust(20, "x"),
            coupon.last_operation,
            coupon.version,
            code=coupon.code,
            number=coupon.next_number(fresh=False) if number is None else number + index,
            previous_number=coupon.number_at(coupon.version),
            accepted_at=NOW + 1_000 + index,
            **changes,
        )
        commands.append(command)
        coupon = transition(coupon, command)
    return commands, coupon


def back_and_forth(count):
    return [Kind.ISSUE, Kind.CANCEL] * (count // 2)


def test_a_history_that_is_longer_than_a_coupon_remembers(house):
    (code,) = house.world.coupons()
    commands, _ = chain(house.world.stored(code), back_and_forth(2 * HISTORY_MAX + 50))
    for command in commands:
        house.publish(command)
        house.world.worker.run_once(poll_s=0)
    house.drain()
    assert house.world.stored(code).version == 1 + len(commands)
    counts, differ = house.restored()
    assert (counts.applied, counts.left, differ) == (len(commands), 0, {})


def test_more_rejections_than_a_coupon_remembers(house):
    (code,) = house.world.coupons()
    for number in range(REJECTIONS_MAX + 50):
        house.world.rival(Kind.ISSUE, code, f"user {number}", key=f"key {number}")
    house.drain()
    assert len(house.world.stored(code).rejections) == REJECTIONS_MAX
    counts, differ = house.restored()
    assert (counts.applied, counts.left, differ) == (1, 0, {})


@pytest.mark.logs_error("dead letter")
def test_what_was_dead_lettered_stays_aside_and_what_was_replayed_is_applied(house):
    one, other = house.world.coupons(2)
    store = Faulty(house.world.backends.store)
    world = house.world.but(store=store)
    house.world.leave()
    for code in (one, other):
        world.change(Kind.ISSUE, code, "ann")
        store.before["save_many"] = [BackendRejected("no"), BackendRejected("no"), BackendRejected("no")]
        world.worker.run_once(poll_s=0)
        store.before["save_many"] = []
        house.world.worker = world.worker
        house.drain()
    assert [letter.reason for letter in dead_letters.browse(house.queue)] == ["no", "no"]
    house.publish(a_command(Kind.ISSUE, "i" * 20, world.stored(one).last_operation, code=one, user_id="bob", number=9))
    house.drain()
    dead_letters.replay(house.queue, list(dead_letters.browse(house.queue)))
    house.drain()
    assert (world.stored(one).user_id, world.stored(other).user_id) == ("bob", "ann")
    world.change(Kind.CANCEL, other)
    store.before["save_many"] = [BackendRejected("no")] * 3
    world.worker.run_once(poll_s=0)
    store.before["save_many"] = []
    house.drain()
    assert world.stored(other).issued, "its cancel is a dead letter that nobody replayed"
    counts, differ = house.restored()
    assert (counts.left, differ) == (0, {})


@pytest.mark.logs_error("dead letter")
def test_a_message_that_cannot_be_read_is_no_bar(house):
    (code,) = house.world.coupons()
    for topic in command_topics(house.world.settings.topics):
        house.queue.publish([Message(topic, code, b"[")])
    house.world.change(Kind.ISSUE, code, "ann")
    house.drain()
    counts, differ = house.restored()
    assert (counts.left, differ) == (0, {})


def test_creations_that_no_worker_has_come_to_are_applied(house):
    chunk = a_creation(size=5, amount=5, secret_fingerprint=house.world.service.code_deriver.fingerprint)
    house.publish(chunk)
    counts, differ = house.restored()
    assert (counts.coupons, counts.left, len(differ)) == (5, 0, 5)
    house.drain()
    assert house.restored()[1] == {}


def test_commands_that_no_worker_has_come_to_are_left_to_them(house):
    (code,) = house.world.coupons()
    house.world.rival(Kind.ISSUE, code, "ann")
    counts, differ = house.restored()
    assert (counts.applied, counts.left, differ) == (0, 0, {})


def test_a_creation_of_another_secret_is_named_and_its_commands_are_left_over(house):
    (code,) = house.world.coupons()
    house.world.change(Kind.ISSUE, code, "ann")
    house.drain()
    other = replace(house.world.settings, secret="another secret, for tests only")
    with capture_logs() as logs:
        counts, _ = house.restored(other)
    assert (counts.coupons, counts.applied, counts.left) == (0, 0, 2)
    assert ["another COUPON_SECRET" in log["reason"] or log["code"] == code for log in logs] == [True, True]


def test_creations_that_earlier_versions_put_among_the_commands(environ):
    for world in a_world(environ):
        house = Shop(world)
        fingerprint = world.service.code_deriver.fingerprint
        house.publish(a_creation(size=3, amount=3, secret_fingerprint=fingerprint), topic="commands")
        house.drain()
        code = next(world.service.code_deriver.codes("birth", 0, 3))
        world.change(Kind.ISSUE, code, "ann")
        house.drain()
        counts, differ = house.restored()
        assert (counts.coupons, counts.applied, counts.left, differ) == (3, 1, 0, {})


def test_the_messages_of_both_layouts_are_read(environ):
    """The layout was changed, once all was applied."""
    for world in a_world({**environ, "COUPON_TOPICS": "per-command"}):
        (code,) = world.coupons()
        world.change(Kind.ISSUE, code, "ann")
        world.drain()
        world.backends.queue.create(["commands"])
        single = World(replace(world.settings, topics="single"), world.backends, world.now + 60_000)
        world.leave()
        single.change(Kind.USE, code)
        single.rival(Kind.USE, code)
        Shop(single).drain()
        assert single.stored(code).used
        for house in (Shop(world), Shop(single)):
            counts, differ = house.restored()
            assert (counts.applied, counts.rejected, counts.left, differ) == (2, 1, 0, {})


def test_a_committed_command_proves_what_was_not_committed_and_no_other(per_command):
    """Its predecessors were applied, though their topic is not committed so far; a rival of theirs was not."""
    house = Shop(per_command)
    first, other = per_command.coupons(2)
    (issue, use, undo), _ = chain(per_command.stored(first), [Kind.ISSUE, Kind.USE, Kind.CANCEL_USE], user_id="ann")
    (lonely,), _ = chain(per_command.stored(other), [Kind.ISSUE], user_id="bob")
    rival = issue._replace(operation="r" * 20, number=77, accepted_at=NOW - 5)
    house.publish(issue, use, undo, rival, lonely)
    group = house.queue.beneath.group("worker")
    for position, end in house.queue.ends(["issue", "use", "cancel"]).items():
        group.next[position] = 0 if position.topic != "cancel" else end
    store = MemoryStore()
    counts = restore(per_command.backends, per_command.settings, store)
    assert (counts.applied, counts.left) == (3, 0)
    made = coupons_of(store)
    assert [entry.operation for entry in made[first].history[1:]] == [c.operation for c in (issue, use, undo)]
    assert made[other] == per_command.stored(other)


def test_what_is_older_than_a_loser_is_not_lost_to_its_number(per_command):
    """It was applied before, and its topic is not committed so far."""
    house = Shop(per_command)
    (code,) = per_command.coupons()
    per_command.change(Kind.ISSUE, code, "ann")
    house.drain()
    per_command.rival(Kind.USE, code)
    per_command.rival(Kind.CANCEL, code)
    house.drain()
    assert len(list(browse_losers(house.queue))) == 1
    for position in house.queue.ends(["issue", "use", "cancel"]):
        house.queue.beneath.group("worker").next[position] = 0
    store = MemoryStore()
    assert restore(per_command.backends, per_command.settings, store).left == 0
    assert differences(per_command.backends.store, store) == {}


def test_what_the_queue_has_forgotten_is_not_taken_for_lost(per_command):
    house = Shop(per_command)
    (code,) = per_command.coupons()
    per_command.change(Kind.ISSUE, code, "ann")
    house.drain()
    per_command.change(Kind.USE, code)
    house.drain()
    for position, end in house.queue.ends(["issue"]).items():
        house.queue.beneath.trim(position, end)
    store = MemoryStore()
    with capture_logs() as logs:
        counts = restore(per_command.backends, per_command.settings, store)
    assert (counts.applied, counts.rejected, counts.left) == (0, 0, 1)
    assert "neither in the store nor in the queue" in logs[0]["reason"]


@pytest.mark.parametrize("layout", ["single", "per-command"])
def test_commands_without_numbers_are_settled_as_they_were(environ, layout):
    """As 511aa48 did: rivals have the number of the winner there, and what is built on them those of its successors."""
    for world in a_world({**environ, "COUPON_TOPICS": layout}):
        house = Shop(world)
        (code,) = world.coupons()
        born = world.stored(code)
        won, now = chain(born, back_and_forth(6), user_id="ann")
        lost, _ = chain(born, back_and_forth(4), user_id="bob")
        lost = [c._replace(operation=c.operation[::-1], accepted_at=c.accepted_at + 1) for c in lost]
        lost = [c._replace(previous=c.previous if c.previous == "birth" else c.previous[::-1]) for c in lost]
        lost = [lost[0]._replace(previous=born.last_operation), *lost[1:]]
        for command in (won[0], *lost, *won[1:]):
            body = {name: value for name, value in command._asdict().items() if "number" not in name}
            house.queue.publish([Message(house.topics[command.kind], code, dump(body))])
        group = house.queue.beneath.group("worker")
        group.next |= house.queue.ends(command_topics(layout))
        store = MemoryStore()
        counts = restore(world.backends, world.settings, store)
        assert (counts.applied, counts.rejected, counts.left) == (6, 4, 0)
        made = coupons_of(store)[code]
        assert made.history[1:] == now.history[1:]
        assert {r.operation for r in made.rejections} == {c.operation for c in lost}
