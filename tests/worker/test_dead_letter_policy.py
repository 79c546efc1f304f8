"""What cannot be applied: each message is dead-lettered once, and a partition that is no good stops no other."""

import json
import threading
from dataclasses import replace

import pytest
from structlog.testing import CapturingLogger

from coupon.acceptance.operations import Status
from coupon.applying import dead_letters
from coupon.domain.errors import BackendRejected, BackendUnavailable, DeploymentError
from coupon.domain.model import Kind
from coupon.domain.serialization import encode_command
from coupon.domain.topics import CREATION
from coupon.ports.queue import Delivery, Message
from coupon.worker.dead_letter_policy import DeadLetterPolicy
from tests.coupons import a_command
from tests.worker.conftest import FIRST, LAST, SHOP, World, a_world
from tests.worker.faults import Faulty, away


def dead_lettered(world):
    return list(dead_letters.browse(world.backends.queue))


def dead_letter(world):
    """Letters as they are in the topic, each time that one was written."""
    return len(list(world.backends.queue.browse("dead-letters")))


def position_of(world, key):
    """The key's partition of the commands."""
    (position,) = world.backends.queue.ends(["commands"], key)
    return position


@pytest.fixture
def poisoned(world):
    """Twenty messages that are no commands, and a command in the same partition behind them."""
    (code,) = world.coupons()
    limit = world.settings.dead_letters_in_a_row
    world.backends.queue.publish([Message("commands", code, b"{")] * limit)
    world.rival(Kind.ISSUE, code, "ann")
    return code, limit


def test_a_partition_full_of_poison_is_left_alone_loudly_and_the_others_go_on(world, poisoned, monkeypatch):
    _, limit = poisoned
    log = CapturingLogger()
    monkeypatch.setattr("coupon.worker.dead_letter_policy.log", log)
    others = [code for code in world.coupons(40) if position_of(world, code) != position_of(world, poisoned[0])]
    for other in others:
        world.change(Kind.ISSUE, other, "bob")
    world.drain()
    world.drain()
    assert all(world.stored(other).issued for other in others)
    assert dead_letter(world) == limit - 1
    assert world.lag() == 2  # the last of them, and the command
    (call,) = [call for call in log.calls if call.method_name == "critical"]
    assert call.args == ("partition left alone",)
    assert "20 dead letters in a row: not JSON" in call.kwargs["reason"]


@pytest.mark.logs_error("dead letter", "partition left alone")
def test_an_operator_gets_past_the_poison_with_a_higher_limit(world, poisoned):
    code, limit = poisoned
    world.drain()
    world.leave()
    World(replace(world.settings, dead_letters_in_a_row=1_000), world.backends, world.now).drain()
    assert world.stored(code).issued
    assert world.lag() == 0
    assert len(dead_lettered(world)) == limit


@pytest.mark.logs_error("dead letter", "partition left alone")
def test_each_start_gets_past_all_but_one_of_what_is_in_a_row(world, poisoned):
    code, _ = poisoned
    world.drain()
    world.leave()
    world.drain(world.a_worker())
    assert world.stored(code).issued


@pytest.mark.logs_error("dead letter")
def test_good_messages_in_between_make_no_row(world):
    (code,) = world.coupons()
    good = encode_command(a_command(Kind.ISSUE, "i", previous=world.stored(code).last_operation, code=code))
    for _ in range(world.settings.dead_letters_in_a_row):
        world.backends.queue.publish([Message("commands", "k", b"{"), Message("commands", "k", good)])
    world.drain()
    assert world.stored(code).version == 2
    assert len(dead_lettered(world)) == world.settings.dead_letters_in_a_row


@pytest.mark.logs_error("dead letter")
def test_bad_messages_of_several_partitions_make_no_row(environ):
    for world in a_world(
        {**environ, "COUPON_QUEUE_URL": "memory://?partitions=16", "COUPON_DEAD_LETTERS_IN_A_ROW": "3"}
    ):
        keys = {}
        for number in range(100):
            keys.setdefault(position_of(world, str(number)), str(number))
        world.backends.queue.publish([Message("commands", key, b"{") for key in keys.values()])
        world.drain()
        assert len(dead_lettered(world)) == 16
        assert world.lag() == 0


@pytest.mark.logs_error("dead letter")
def test_one_bad_message_while_commits_fail_is_dead_lettered_once(world):
    (code,) = world.coupons()
    world.consumer.before["commit"] = [away()] * 40
    world.backends.queue.publish([Message("commands", code, b"{")])
    failures = 0
    for _ in range(200):
        try:
            world.look(world.worker)
        except BackendUnavailable:
            failures += 1
            world.worker.rewind()
    assert failures == 40
    assert dead_letter(world) == 1
    world.change(Kind.ISSUE, code, "ann")
    world.drain()
    assert world.stored(code).issued


@pytest.mark.logs_error("dead letter")
def test_letters_that_could_not_be_dead_lettered_are_not_counted_again(world):
    queue = Faulty(world.backends.queue)
    world.leave()
    shaken = world.but(queue=queue)
    world.backends.queue.publish([Message("commands", "k", b"{")] * 5)
    queue.before["publish"] = [away()] * 20
    for _ in range(20):
        with pytest.raises(BackendUnavailable):
            shaken.worker.run_once(poll_s=0)
        shaken.worker.rewind()
    shaken.drain()
    assert len(dead_lettered(world)) == 5


def alien(world):
    """A creation of another secret."""
    world.service.create(1, FIRST, LAST, SHOP)
    *_, delivery = sorted(world.backends.queue.browse(CREATION), key=lambda d: json.loads(d.value)["accepted_at"])
    world.drain()
    return Message(delivery.topic, delivery.key, json.dumps(json.loads(delivery.value) | {"mint": "another"}).encode())


@pytest.mark.logs_error("dead letter")
def test_creations_of_another_secret_are_dead_lettered_and_stop_nothing(world):
    message = alien(world)
    (code,) = world.coupons()
    world.backends.queue.publish([message] * (2 * world.settings.dead_letters_in_a_row))
    world.change(Kind.ISSUE, code, "ann")
    world.drain()
    assert world.stored(code).issued
    assert world.lag() == 0
    assert {letter.reason for letter in dead_lettered(world)} == {
        "accepted with another COUPON_SECRET, whose fingerprint is another"
    }


@pytest.mark.logs_error("dead letter")
def test_a_replay_brings_a_creation_of_another_secret_back_once_the_secret_is_right(world):
    """The workers have the wrong secret, the web side the right one."""
    wrong = replace(world.settings, secret="another secret of the tests")
    world.leave()
    address = world.service.create(3, FIRST, LAST, SHOP)
    mistaken = World(wrong, world.backends, world.now)
    mistaken.drain()
    mistaken.leave()
    assert world.service.operations.outcome(address).status is Status.ACCEPTED
    dead_letters.replay(world.backends.queue, dead_lettered(world))
    world.drain(world.a_worker())
    assert world.service.operations.outcome(address).status is Status.APPLIED
    assert world.lag() == 0


@pytest.mark.logs_error("dead letter")
def test_creations_of_two_secrets_are_all_applied_by_two_workers_in_turn(world):
    """What operations.md has for it: no round leaves more to do than the one before."""
    other = World(replace(world.settings, secret="another secret of the tests"), world.backends, world.now)
    other.leave()
    addresses = [(one, one.service.create(3, FIRST, LAST, SHOP)) for one in (world, other) for _ in range(30)]
    world.drain()
    world.leave()
    dead_letters.replay(world.backends.queue, dead_lettered(world))
    world.drain(other.a_worker())
    assert {one.service.operations.outcome(address).status for one, address in addresses} == {Status.APPLIED}
    assert world.lag() == 0


@pytest.mark.logs_error("partition left alone")
def test_messages_of_another_version_are_left_alone_and_not_dead_lettered(world):
    """A field is missing that this version needs. The others, and what came before it, are applied."""
    codes = world.coupons(20)
    older = json.loads(encode_command(a_command(Kind.ISSUE, "i", code=codes[0])))
    del older["day"]
    world.change(Kind.ISSUE, codes[0], "ann")
    world.backends.queue.publish([Message("commands", codes[0], json.dumps(older).encode())])
    world.change(Kind.USE, codes[0])
    for code in codes[1:]:
        world.change(Kind.ISSUE, code, "ann")
    behind = {code for code in codes if position_of(world, code) == position_of(world, codes[0])}
    world.drain()
    world.drain()
    assert dead_letter(world) == 0
    assert world.stored(codes[0]).issued
    assert not world.stored(codes[0]).used
    assert all(world.stored(code).issued for code in codes if code not in behind)
    world.look(world.worker, after_ms=5_000)
    topic, partition = position_of(world, codes[0])
    assert "missing required field `day`" in world.sign().left_alone[f"{topic}/{partition}"]
    assert world.lag() >= 2


@pytest.mark.logs_error("dead letter")
def test_what_builds_on_a_command_that_was_dead_lettered_comes_back_with_it(world):
    """Rejected, it would be so indefinitely."""
    (code,) = world.coupons()
    issue, use = world.change(Kind.ISSUE, code, "ann"), world.change(Kind.USE, code)
    undo = world.change(Kind.CANCEL_USE, code)
    save_many = world.backends.store.save_many

    def refuse(coupons):
        if coupons:
            raise BackendRejected("too large")
        return set()

    world.backends.store.save_many = refuse
    world.drain()
    world.backends.store.save_many = save_many
    world.leave()
    reasons = [letter.reason for letter in dead_lettered(world)]
    assert reasons == ["too large", *["what it builds on was dead-lettered"] * 2]
    dead_letters.replay(world.backends.queue, dead_lettered(world))
    world.drain(world.a_worker())
    assert [world.service.operations.outcome(address).status for address in (issue, use, undo)] == [Status.APPLIED] * 3


@pytest.mark.logs_error("dead letter")
def test_another_worker_knows_what_was_dead_lettered_before_it(world):
    """The follower was accepted before, and is applied by the next worker."""
    (code,) = world.coupons()
    world.change(Kind.ISSUE, code, "ann")
    world.change(Kind.USE, code)
    issue, use = [d for d in world.backends.queue.browse("commands") if d.key == code][-2:]
    world.backends.queue.publish([dead_letters.encode(issue, "too large", 0)])
    world.leave()
    world.backends.queue.consumer(["commands"], "worker")
    other = world.a_worker()
    world.consumers[other].poll(1_000, 0)
    world.consumers[other].commit({position_of(world, code): use.offset})
    world.leave(other)
    world.drain(world.a_worker())
    assert dead_lettered(world)[-1].value == use.value
    assert world.stored(code).rejections == ()


@pytest.mark.logs_error("dead letter")
def test_a_worker_that_read_the_letters_just_now_knows_of_those_that_came_since(world):
    """Another dead-lettered the predecessor, and this one is given the follower a moment later."""
    code, other = world.coupons(2)
    follower = a_command(Kind.USE, "u", "nobody's", 5, code=other)
    world.backends.queue.publish([Message("commands", other, encode_command(follower))])
    world.drain()
    assert world.stored(other).rejections
    world.change(Kind.ISSUE, code, "ann")
    world.change(Kind.USE, code)
    issue, use = [d for d in world.backends.queue.browse("commands") if d.key == code][-2:]
    world.backends.queue.publish([dead_letters.encode(issue, "too large", 0)])
    world.consumer.poll(1, 0)
    world.consumer.commit({position_of(world, code): use.offset})
    world.worker.rewind()
    world.drain()
    assert dead_lettered(world)[-1].value == use.value
    assert world.stored(code).rejections == ()


def test_only_new_letters_are_read_and_only_the_newest_are_remembered(world, monkeypatch):
    monkeypatch.setattr("coupon.worker.dead_letter_policy.OPERATIONS_MAX", 20)
    queue = Faulty(world.backends.queue)
    policy = DeadLetterPolicy(queue, lambda: 0, 20)

    def dead_lettered_by_another(number):
        command = encode_command(a_command(Kind.ISSUE, f"op{number}", code="A" * 19))
        world.backends.queue.publish([dead_letters.encode(Delivery("commands", 0, number, "k", command), "bad", 0)])

    for number in range(100):
        dead_lettered_by_another(number)
        policy.mark_stale()
        assert policy.was_dead_lettered(f"op{number}")
        assert not policy.was_dead_lettered("another")
    assert queue.calls.count("read") == 100
    assert not policy.was_dead_lettered("op79")
    assert policy.was_dead_lettered("op80")


def test_letters_of_a_topic_that_was_recreated_are_read_from_its_beginning(world):
    queue = world.backends.queue
    policy = DeadLetterPolicy(queue, lambda: 0, 20)
    for name in ("one", "two"):
        command = encode_command(a_command(Kind.ISSUE, name, code="A" * 19))
        letter = dead_letters.encode(Delivery("commands", 0, 0, "k", command), "bad", 0)
        queue.publish([letter] * (3 if name == "one" else 1))
        policy.mark_stale()
        assert policy.was_dead_lettered(name)
        for position in queue.ends(["dead-letters"]):
            queue.beneath.logs[position] = []


def test_a_worker_does_not_begin_while_commands_wait_that_only_another_layout_reads(world):
    """It would overtake them, and reject what is built on them."""
    per_command = World(replace(world.settings, topics="per-command"), world.backends, world.now)
    (code,) = world.coupons()
    world.backends.queue.create(["issue", "use", "cancel"])
    world.change(Kind.ISSUE, code, "ann")
    with pytest.raises(DeploymentError, match=r"1 messages wait in the topic 'commands', .*TOPICS=single drain"):
        per_command.worker.run(threading.Event())
    assert dead_letter(world) == 0
    world.drain()
    stop = threading.Event()
    per_command.worker = per_command.a_worker()
    per_command.worker.run_once = stop.set
    per_command.worker.run(stop)
    assert world.stored(code).issued
