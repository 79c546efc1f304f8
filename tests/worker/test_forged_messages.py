"""Whoever can write to a topic can neither mint, issue nor use, and can stop nothing."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from coupon.acceptance.operations import Status
from coupon.applying import dead_letters
from coupon.bulk.queue_history import Recorded
from coupon.bulk.restore import Counts, Restore
from coupon.bulk.upgraded_queue import settle
from coupon.domain.errors import ConfigurationError
from coupon.domain.model import Kind
from coupon.domain.serialization import dump, encode_command
from coupon.domain.signatures import MessageKey, parse
from coupon.domain.topics import CREATION, DEAD_LETTERS, INVALIDATE, REINDEX, REJECTIONS, all_topics, work_topics
from coupon.ports.queue import Delivery, Forged, Message, Position
from coupon.runtime.keyring import Keyring, Keys, keys_of
from coupon.runtime.older_messages import OlderMessages
from coupon.runtime.signed_queue import SignedQueue
from coupon.worker.dead_letter_policy import DeadLetterPolicy
from coupon.worker.forgeries import KEPT, PERIOD_MS
from tests.coupons import a_command, a_creation
from tests.worker.conftest import World, a_world

pytestmark = pytest.mark.logs_error("dead letter", "forged messages")


def keys(world) -> Keys:
    return keys_of(world.settings.secret, [])


@pytest.fixture
def settled(world):
    """`coupon init` was run."""
    settle(world.backends.queue, world.backends.store, keys(world))
    return world


def forge(world, *messages: Message) -> None:
    """Write them into the topics with no key."""
    world.backends.queue.beneath.publish(messages)


def unsign(world) -> None:
    """Make the queue that of an earlier version."""
    for log in world.backends.queue.beneath.logs.values():
        log[:] = [each._replace(value=signed.value) for each in log if (signed := parse(each.value))]


def letters(world) -> list[dead_letters.DeadLetter]:
    return list(dead_letters.browse(world.backends.queue))


def an_issue(world, code: str, **changes) -> bytes:
    coupon = world.stored(code)
    command = a_command(Kind.ISSUE, "forged", coupon.last_operation, coupon.version, code=code, user_id="mallory")
    return encode_command(command._replace(**changes))


def test_nobody_mints_issues_or_indexes_by_writing_into_a_topic(settled):
    (code,) = settled.coupons()
    minted = encode_command(a_creation(codes=("F" * 19,)))
    forge(
        settled,
        Message(CREATION, "k", minted),
        Message("commands", code, an_issue(settled, code)),
        Message(REINDEX, code, dump([code])),
        Message(INVALIDATE, code, dump([code])),
    )
    settled.drain()
    assert settled.lag() == 0
    assert settled.stored(code).version == 1
    assert settled.backends.store.get_many(["F" * 19]) == {}
    assert {(letter.topic, letter.reason, letter.forged) for letter in letters(settled)} == {
        (topic, "it is not signed", True) for topic in (CREATION, "commands", REINDEX, INVALIDATE)
    }
    assert minted in [letter.value for letter in letters(settled)]


def test_a_message_of_ours_is_nowhere_else_what_it_was(settled):
    one, other = settled.coupons(2)
    settled.change(Kind.ISSUE, one, "ann")
    (sealed,) = [each for each in settled.backends.queue.beneath.browse("commands") if each.key == one]
    forge(settled, Message("commands", other, sealed.value), Message(CREATION, one, sealed.value))
    forge(settled, Message("commands", one, sealed.value))  # a copy is a redelivery
    settled.drain()
    assert settled.stored(one).version == 2
    assert settled.stored(other).version == 1
    assert [letter.reason for letter in letters(settled)] == ["its signature is wrong"] * 2


def test_any_number_of_forged_messages_in_a_row_pauses_nothing(settled):
    (code,) = settled.coupons()
    limit = settled.settings.dead_letters_in_a_row
    forge(settled, *[Message("commands", code, b"{")] * (3 * limit))
    forge(settled, Message("commands", code, b'{"kind":"issue"}'))  # of another version it would be left alone
    settled.change(Kind.ISSUE, code, "ann")
    settled.drain()
    assert settled.stored(code).user_id == "ann"
    assert settled.sign().left_alone == {}
    assert settled.lag() == 0


def test_between_bad_messages_of_ours_forged_ones_do_not_hide_that_they_are_in_a_row(settled):
    limit = settled.settings.dead_letters_in_a_row
    for _ in range(limit):
        settled.backends.queue.publish([Message("commands", "k", b"{")])
        forge(settled, Message("commands", "k", b"{"))
    settled.drain()
    assert len([letter for letter in letters(settled) if not letter.forged]) == limit - 1
    assert settled.lag() > 0


test_between_bad_messages_of_ours_forged_ones_do_not_hide_that_they_are_in_a_row.pytestmark = [
    pytest.mark.logs_error("dead letter", "forged messages", "partition left alone")
]


def test_a_flood_of_them_fills_neither_the_dead_letters_nor_the_log(settled):
    (code,) = settled.coupons()
    with capture_logs() as logged:
        forge(settled, *[Message("commands", code, b"x" * 100_000)] * (KEPT + 50))
        settled.change(Kind.ISSUE, code, "ann")
        settled.drain()
        assert len(letters(settled)) == KEPT
        settled.now += 61_000
        forge(settled, Message("commands", code, b"more"))
        settled.drain()
        assert len(letters(settled)) == KEPT
    lines = [line for line in logged if line["event"] == "forged messages"]
    assert len(lines) == 2
    assert lines[1]["not_kept"] >= 1
    assert all(len(letter.value) < 20_000 and not letter.whole for letter in letters(settled))
    assert settled.stored(code).user_id == "ann"
    settled.now += PERIOD_MS
    forge(settled, Message("commands", code, b"later"))
    settled.drain()
    assert letters(settled)[-1].value == b"later"
    assert settled.lag() == 0


def test_a_forged_copy_of_a_command_takes_none_with_it_that_builds_on_the_command(settled):
    """It is a dead letter with an operation of ours. What builds on that operation is not dead-lettered for it."""
    queue = settled.backends.queue
    copy = encode_command(a_command(Kind.ISSUE, "ours", code="A" * 19))
    queue.publish([dead_letters.encode(Delivery("commands", 0, 7, "k", b"", Forged("it is not signed", copy)), "", 0)])
    policy = DeadLetterPolicy(queue, lambda: 0, 20)
    assert not policy.was_dead_lettered("ours")
    queue.publish([dead_letters.encode(Delivery("commands", 0, 8, "k", copy), "too large", 0)])
    policy.mark_stale()
    assert policy.was_dead_lettered("ours")


def test_a_flood_in_the_topic_of_dead_letters_does_not_fill_the_log(settled):
    policy = DeadLetterPolicy(settled.backends.queue, lambda: settled.now, 20)
    with capture_logs() as logged:
        for _ in range(3):
            forge(settled, *[Message(DEAD_LETTERS, "k", b"junk")] * 600)
            policy.mark_stale()
            assert not policy.was_dead_lettered("any")
            settled.now += 40_000
        settled.backends.queue.publish([Message(DEAD_LETTERS, "k", b"of ours")])
        policy.mark_stale()
        assert not policy.was_dead_lettered("any")
    assert [line["event"] for line in logged] == ["forged messages"] * 2 + ["not a dead letter"]
    assert logged[0]["record_id"].position.topic == DEAD_LETTERS


def test_a_replay_does_not_sign_what_is_forged_unless_it_was_looked_at(settled):
    (code,) = settled.coupons()
    forge(settled, Message("commands", code, an_issue(settled, code)))
    settled.drain()
    (letter,) = letters(settled)
    topics = work_topics(settled.settings.topics)
    assert "a replay would sign it" in dead_letters.fault(letter, topics)
    assert dead_letters.fault(letter, topics, sign=True) is None
    dead_letters.replay(settled.backends.queue, [letter])
    settled.drain()
    assert settled.stored(code).user_id == "mallory"


def test_of_a_signature_that_is_not_believed_a_replay_takes_the_message_only(settled):
    (code,) = settled.coupons()
    stranger = MessageKey("a secret of somebody else")
    forge(settled, Message("commands", code, stranger.sign("commands", code, an_issue(settled, code))))
    settled.drain()
    (letter,) = letters(settled)
    assert "is not in the keyring" in letter.reason
    dead_letters.replay(settled.backends.queue, [letter])
    settled.drain()
    assert settled.stored(code).user_id == "mallory"


def test_forged_letters_and_rejections_are_none(settled):
    (code,) = settled.coupons()
    body = dead_letters.encode(next(settled.backends.queue.browse(CREATION)), "all is well", settled.now).value
    loser = {"code": code, "operation": "x", "previous_version": 1, "at": 0, "reason": "RIVAL_WON", "number": 2**40}
    forge(settled, Message(DEAD_LETTERS, "k", body), Message(REJECTIONS, code, dump(loser)))
    found: list[str] = []
    assert list(dead_letters.browse(settled.backends.queue, lambda _, reason: found.append(reason))) == []
    assert found == ["it is not signed"]
    restored(settled, settled.backends.store)
    assert settled.stored(code).settled == 1


def test_what_an_earlier_version_queued_is_applied_and_what_comes_after_the_upgrade_is_not(world):
    codes = world.coupons(2)
    unsign(world)
    forge(world, Message("commands", codes[0], an_issue(world, codes[0])))
    settle(world.backends.queue, world.backends.store, keys(world))
    forge(world, Message("commands", codes[1], an_issue(world, codes[1])))
    world.drain()
    assert [world.stored(code).user_id for code in codes] == ["mallory", None]


def test_while_earlier_versions_still_publish_their_messages_are_taken(world):
    first, second, third = world.coupons(3)
    settle(world.backends.queue, world.backends.store, keys(world))
    settle(world.backends.queue, world.backends.store, keys(world), take_unsigned=True)
    forge(world, Message("commands", first, an_issue(world, first)))
    world.drain()
    forge(world, Message("commands", second, an_issue(world, second)))
    settle(world.backends.queue, world.backends.store, keys(world))
    forge(world, Message("commands", third, an_issue(world, third)))
    world.drain()
    assert [world.stored(code).user_id for code in (first, second, third)] == ["mallory", "mallory", None]


def test_a_second_init_takes_nothing_more(settled):
    (code,) = settled.coupons()
    forge(settled, Message("commands", code, an_issue(settled, code)))
    settle(settled.backends.queue, settled.backends.store, keys(settled))
    settled.drain()
    assert settled.stored(code).user_id is None


def restored(world, store) -> Counts:
    recorded = Recorded(world.backends.queue, all_topics(world.settings.topics))
    return Restore(world.backends.queue, store, world.service.code_deriver, recorded).run()


def test_a_restore_leaves_out_what_is_forged_and_counts_it(settled):
    (code,) = settled.coupons()
    forge(settled, Message(CREATION, "k", encode_command(a_creation(codes=("F" * 19,)))))
    forge(settled, *[Message("commands", code, an_issue(settled, code))] * (KEPT + 5))
    settled.drain()
    settled.change(Kind.ISSUE, code, "ann")
    settled.drain()
    before = settled.stored(code)
    fresh = settled.backends.store.__class__()
    fresh.create()
    counts = restored(settled, fresh)
    assert fresh.get_many([code])[code]._replace(revision=0) == before._replace(revision=0)
    assert fresh.get_many(["F" * 19]) == {}
    assert (counts.forged, counts.left) == (KEPT + 6, 0)


def test_where_the_store_was_lost_what_came_after_the_first_signed_message_is_not_taken_unsigned(settled):
    """The record is lost with it: the queue itself shows where messages began to be signed."""
    (code,) = settled.coupons()
    settled.change(Kind.ISSUE, code, "ann")
    forged = an_issue(settled, code)
    forge(settled, Message("commands", code, forged))
    fresh = settled.backends.store.__class__()
    fresh.create()
    assert settle(settled.backends.queue, fresh, keys(settled)) == 0


def test_another_secret_is_recorded_only_when_the_former_one_is_said_to_be_lost(settled):
    queue, store, other = settled.backends.queue, settled.backends.store, keys_of("another secret of the tests", [])
    with pytest.raises(ConfigurationError, match="COUPON_SECRET is another one than at the first coupon init"):
        settle(queue, store, other)
    settle(queue, store, other, new_secret=True)
    settle(queue, store, other)
    assert OlderMessages(store).present().keys == [keys(settled).root, other.root]


def test_what_the_lost_secret_signed_is_forged_and_stops_nobody(settled):
    (code,) = settled.coupons()
    settled.change(Kind.ISSUE, code, "ann")  # it waits, and nobody can check it any more
    beneath, store, secret = settled.backends.queue.beneath, settled.backends.store, "another secret of the tests"
    queue = SignedQueue(beneath, Keyring(secret, ""), OlderMessages(store))
    settle(queue, store, keys_of(secret, []), new_secret=True)
    settled.leave()
    renewed = World(replace(settled.settings, secret=secret), replace(settled.backends, queue=queue), settled.now)
    renewed.change(Kind.ISSUE, code, "bob")
    renewed.drain()
    assert renewed.stored(code).user_id == "bob"
    assert [letter.forged for letter in letters(renewed)] == [True]
    assert "which is retired" in letters(renewed)[0].reason


@pytest.mark.parametrize("later", [0, 600])
def test_where_the_store_was_lost_an_intruders_messages_are_taken_nowhere(settled, later):
    """Neither in a partition of which the newest messages are his, nor in one that has no other."""
    settled.coupons(1)
    minted = encode_command(a_creation(codes=("F" * 19,)))
    beneath = settled.backends.queue.beneath
    (own,) = [Position(d.topic, d.partition) for d in beneath.browse(CREATION)]
    if later:
        at = next(k for k in "abcdefgh" if own in beneath.ends([CREATION], k))
    else:
        at = next(k for k in "abcdefgh" if own not in beneath.ends([CREATION], k))
    forge(settled, Message(CREATION, at, minted), *[Message(CREATION, at, b"{}")] * later)
    settled.drain()
    fresh = settled.backends.store.__class__()
    fresh.create()
    assert settle(settled.backends.queue, fresh, keys(settled)) == 0
    restored(but(settled, fresh), fresh)
    assert fresh.get_many(["F" * 19]) == {}


def but(world, store) -> World:
    """The world after the loss of its store."""
    queue = SignedQueue(world.backends.queue.beneath, Keyring(world.settings.secret, ""), OlderMessages(store))
    return World(world.settings, replace(world.backends, queue=queue, store=store), world.now)


def copied_elsewhere(world, message: Delivery) -> list[Delivery]:
    """Append the message as it is to another partition of its topic, as one without a key can. Returns what its own
    partition has, which is empty from now on: it lags."""
    logs = world.backends.queue.beneath.logs
    own = Position(message.topic, message.partition)
    other = Position(message.topic, 1 - message.partition)
    logs[other].append(message._replace(partition=other.partition, offset=len(logs[other])))
    lagging = logs[own][message.offset - 1 :]
    del logs[own][message.offset - 1 :]
    return lagging


@pytest.fixture
def two_partitions(environ):
    for world in a_world({**environ, "COUPON_QUEUE_URL": "memory://?partitions=2"}):
        settle(world.backends.queue, world.backends.store, keys(world))
        yield world


def both_applied(world, *addresses) -> bool:
    return [world.service.operations.outcome(each).status for each in addresses] == [Status.APPLIED] * len(addresses)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("amount", [1, 8])
def test_a_copy_in_another_partition_waits_for_what_it_builds_on(two_partitions, amount, together):
    """The copies come before the originals, to the same worker. Codes are in both partitions."""
    world = two_partitions
    codes = world.coupons(amount)
    addresses, lagging = [], []
    for code in codes:
        addresses += [world.change(Kind.ISSUE, code, "ann"), world.change(Kind.USE, code)]
        uses = [d for d in world.backends.queue.beneath.browse("commands") if d.key == code]
        lagging += [copied_elsewhere(world, uses[1])]
        if not together:
            world.drain()
            assert world.stored(code).settled == 1
        for message in lagging.pop():
            logs = world.backends.queue.beneath.logs[Position("commands", message.partition)]
            logs.append(message._replace(offset=len(logs)))
    for _ in range(5):
        world.look(world.worker)
    assert both_applied(world, *addresses)
    assert all(world.stored(code).used and not world.stored(code).rejections for code in codes)
    assert world.lag() == 0
    assert letters(world) == []


def test_a_restore_does_not_take_a_copy_in_another_partition_for_one_that_is_in_order(two_partitions):
    world = two_partitions
    (code,) = world.coupons()
    world.now += 60_000  # the copy comes first in the order of acceptance
    world.change(Kind.ISSUE, code, "ann")
    world.now -= 60_000
    world.change(Kind.USE, code)
    use = [d for d in world.backends.queue.beneath.browse("commands") if d.key == code][1]
    for message in copied_elsewhere(world, use):
        world.backends.queue.beneath.logs[Position("commands", message.partition)].append(message)
    for _ in range(5):
        world.look(world.worker)
    before = world.stored(code)
    assert before.used
    fresh = world.backends.store.__class__()
    fresh.create()
    restored(world, fresh)
    assert fresh.get_many([code])[code]._replace(revision=0) == before._replace(revision=0)
