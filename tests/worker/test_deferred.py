"""Commands that wait: for a predecessor on another topic, or for their coupon."""

import random

import pytest
from structlog.testing import capture_logs

from coupon.acceptance.operations import Status
from coupon.applying import dead_letters
from coupon.applying.batch import COMMANDS_A_COUPON_MAX
from coupon.domain.codes import LENGTH
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import HISTORY_MAX, Kind, create
from coupon.domain.serialization import decode_command, encode_command
from coupon.domain.topics import all_topics, command_topics
from coupon.ports.queue import Message, Position
from coupon.runtime.wiring import open_backends
from tests.coupons import a_command, a_creation
from tests.worker.conftest import World, a_world


def reads_and_lines(world, worker, ms):
    """Coupons that are read, and lines that are logged, while the worker waits so long as it asks to."""
    read, end = 0, world.now + ms
    get_many = world.backends.store.get_many

    def counted(codes):
        nonlocal read
        codes = set(codes)
        read += len(codes)
        return get_many(codes)

    world.backends.store.get_many = counted
    with capture_logs() as lines:
        while world.now < end:
            worker.run_once()
            world.now += max(1, round(world.consumers[worker].timeout_s * 1000))
    world.backends.store.get_many = get_many
    return read, [line["event"] for line in lines]


def issue_and_use(world, codes):
    for code in codes:
        world.change(Kind.ISSUE, code, "ann")
        world.change(Kind.USE, code)


def deferred_uses(world, amount):
    """Coupons that are to be used before they are issued, and the worker that has to wait."""
    codes = world.coupons(amount)
    world.leave()
    issue_and_use(world, codes)
    return codes, world.a_worker("use")


def test_what_waits_costs_next_to_nothing_while_nothing_happens(per_command):
    world = per_command
    _, uses = deferred_uses(world, 200)
    reads_and_lines(world, uses, 2_000)
    read, lines = reads_and_lines(world, uses, 10_000)
    assert read / 10 <= 200 * 3
    assert lines == []


def test_what_waits_is_looked_at_soon_when_its_coupon_gets_on(per_command):
    """However long it has waited: a link of the chain may take as long as the other worker takes, and little more."""
    world = per_command
    (code,) = world.coupons()
    world.leave()
    issues, cancels = world.a_worker("issue"), world.a_worker("cancel")
    for number in range(40):
        world.change(Kind.CANCEL if number % 2 else Kind.ISSUE, code, None if number % 2 else "ann")
    reads_and_lines(world, cancels, 5_000)
    world.now += 1_000
    began = world.now
    while world.stored(code).version < 41:
        world.now += 1
        for worker in (issues, cancels):
            worker.run_once(poll_s=0)
        assert world.now - began < 1_000
    assert world.now - began < 40 * 5


def test_what_is_delivered_behind_a_waiting_command_is_settled_with_it_in_one_step(per_command):
    world = per_command
    (code,) = world.coupons()
    world.leave()
    world.change(Kind.ISSUE, code, "ann")
    for number in range(3 * HISTORY_MAX):
        world.change(Kind.CANCEL_USE if number % 2 else Kind.USE, code)
    worker = world.a_worker("use", "cancel")
    worker.run_once(poll_s=0)
    world.drain(world.a_worker("issue"))
    for _ in range(3):
        world.look(worker)
    assert world.stored(code).version == 2 + 3 * HISTORY_MAX


def test_one_coupon_with_many_waiting_commands_holds_up_no_other_of_its_partition(environ):
    changes = {"COUPON_TOPICS": "per-command", "COUPON_BATCH_MAX": "10", "COUPON_QUEUE_URL": "memory://?partitions=1"}
    for world in a_world({**environ, **changes}):
        hot, cold = world.coupons(2)
        world.change(Kind.ISSUE, cold, "ann")
        world.drain()
        world.leave()
        for number in range(200):
            world.change(Kind.CANCEL if number % 2 else Kind.ISSUE, hot, None if number % 2 else "ann")
        world.change(Kind.CANCEL, cold)
        cancels = world.a_worker("cancel")
        for _ in range(12):
            world.look(cancels)
        assert not world.stored(cold).issued


def test_a_partition_with_too_much_waiting_is_left_alone_until_it_gets_on(per_command, monkeypatch):
    monkeypatch.setattr("coupon.worker.deferred.BYTES_MAX", 3_000)
    world = per_command
    codes = world.coupons(100)
    world.leave()
    issues, uses = world.a_worker("issue"), world.a_worker("use", batch_max=4)
    issue_and_use(world, codes)
    for _ in range(60):
        world.look(uses)
    assert 0 < world.sign("use").waiting < 100
    world.drain(issues)
    for _ in range(60):
        world.look(uses)
    assert all(world.stored(code).used for code in codes)


@pytest.mark.logs_error("dead letter")
def test_the_wait_for_a_predecessor_is_not_extended_by_a_rewind(per_command):
    world = per_command
    (code,) = world.coupons()
    world.leave()
    world.change(Kind.ISSUE, code, "ann")
    use = world.change(Kind.USE, code)
    uses = world.a_worker("use")
    waited_s = 0
    while not list(dead_letters.browse(world.backends.queue)):
        uses.rewind()
        world.look(uses, after_ms=10_000)
        waited_s += 10
        assert waited_s <= world.settings.predecessor_wait_s + 20
    assert waited_s >= world.settings.predecessor_wait_s
    assert world.service.operations.outcome(use).status is Status.ACCEPTED


def test_a_wall_clock_that_is_put_forward_lets_nothing_wait_in_vain(per_command):
    world = per_command
    codes, uses = deferred_uses(world, 100)
    world.look(uses)
    world.skew = 700_000
    world.look(uses)
    world.drain(world.a_worker("issue"))
    world.look(uses)
    assert all(world.stored(code).used for code in codes)


def test_the_wait_for_a_predecessor_goes_on_while_what_it_may_be_in_is_being_delivered(per_command):
    """As in a restore: the other topic is hours behind, and gets on."""
    world = per_command
    codes = world.coupons(30)
    world.leave()
    for code in codes:
        world.change(Kind.ISSUE, code, "ann")
    uses = [world.change(Kind.USE, code) for code in codes]
    worker, issues = world.a_worker("use"), world.a_worker("issue", batch_max=1)
    for _ in codes:
        world.look(worker, after_ms=world.settings.predecessor_wait_s * 600)
        issues.run_once(poll_s=0)
        issues.flush()
    world.look(worker)
    assert {world.service.operations.outcome(use).status for use in uses} == {Status.APPLIED}


@pytest.fixture(params=["single", "per-command"])
def lost(request, environ):
    """What a service did with 120 coupons, its store lost since: the queue holds all, and the group is at its begin."""
    randomly = random.Random(request.param)
    changes = {"COUPON_TOPICS": request.param, "COUPON_BATCH_MAX": "20", "COUPON_DEAD_LETTERS_IN_A_ROW": "3"}
    for world in a_world({**environ, **changes}):
        codes = []
        for _ in range(40):
            codes += world.coupons(3)
            world.now += 1_000
            for _ in range(20):
                code = randomly.choice(codes)
                coupon = world.stored(code)
                if coupon.used:
                    world.change(Kind.CANCEL_USE, code)
                elif coupon.issued:
                    world.change(randomly.choice([Kind.USE, Kind.CANCEL]), code)
                else:
                    world.change(Kind.ISSUE, code, "ann")
                world.drain()
                if request.param == "per-command":
                    world.look(world.worker)
        before = {code: world.stored(code)._replace(revision=0) for code in codes}
        yield world, before


def restored(world):
    """The world with an empty store, and with the topics' messages in a queue whose group is at its begin."""
    fresh = open_backends(world.settings)
    fresh.store.create()
    fresh.search.create()
    fresh.queue.create(all_topics(world.settings.topics))
    for topic in command_topics(world.settings.topics):
        for position in sorted(world.backends.queue.ends([topic])):
            found = world.backends.queue.read(position, 0, 100_000)
            fresh.queue.publish([Message(d.topic, d.key, d.value) for d in found])
    return World(world.settings, fresh, world.now)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_lost_store_is_recreated_from_the_queue_without_a_stop(lost, workers):
    world, before = lost
    again = restored(world)
    again.leave()
    many = [again.a_worker() for _ in range(workers)]
    for _ in range(300):
        for worker in many:
            try:
                again.look(worker, after_ms=500)
            except BackendUnavailable:  # another has the partition by now
                worker.rewind()
        if again.backends.queue.lag(command_topics(again.settings.topics), "worker") == 0:
            break
    assert list(dead_letters.browse(again.backends.queue)) == []
    after = {code: again.stored(code)._replace(revision=0) for code in before}
    assert after == before


CODE = "B" * LENGTH


def publish(world, message, partition):
    """The message of a command, in that partition of the commands."""
    queue = world.backends.queue
    key = next(
        key for key in map(str, range(1_000)) if Position("commands", partition) in queue.ends(["commands"], key)
    )
    queue.publish([Message("commands", key, encode_command(message))])


def chain(code=CODE):
    """Two commands on a coupon that was created as ``birth``."""
    return [a_command(Kind.ISSUE, "i", code=code), a_command(Kind.USE, "u", "i", 2, code=code)]


def birth(code=CODE):
    return a_creation(codes=(code,))


def dead_lettered(world):
    return [decode_command(letter.value).operation for letter in dead_letters.browse(world.backends.queue)]


@pytest.mark.parametrize("batch_max", [1, 500])
@pytest.mark.parametrize("partition", [0, 1])
def test_commands_wait_for_their_coupon_in_their_order(environ, partition, batch_max):
    """Its creation is behind them, in their partition or in another."""
    for world in a_world({**environ, "COUPON_BATCH_MAX": str(batch_max)}):
        for command in chain():
            publish(world, command, 0)
        publish(world, birth(), partition)
        for _ in range(10):
            world.look(world.worker)
        assert [entry.operation for entry in world.stored(CODE).history] == ["birth", "i", "u"]
        assert world.stored(CODE).rejections == ()
        assert (dead_lettered(world), world.lag()) == ([], 0)


@pytest.mark.logs_error("dead letter")
def test_a_command_whose_coupon_does_not_come_is_dead_lettered_when_all_before_it_was_delivered(world):
    for command in chain():
        publish(world, command, 0)
    world.worker.run_once(poll_s=0)
    assert dead_lettered(world) == []
    world.look(world.worker)
    world.look(world.worker)
    assert dead_lettered(world) == ["i", "u"]
    assert world.lag() == 0


@pytest.fixture
def two(world):
    """Two workers that share the partitions, and a partition of each."""
    workers = [world.worker, world.a_worker()]
    for _ in range(3):
        world.look(*workers)
    for partition in range(4):
        publish(world, birth(str(partition) * LENGTH), partition)
    for _ in range(3):
        world.look(*workers)
    return workers, [min(world.consumers[worker].positions).partition for worker in workers]


@pytest.mark.logs_error("dead letter")
def test_two_workers_whose_commands_wait_for_nothing_do_not_wait_for_each_other(world, two):
    """Neither commits what waits, and each has to know that the other's partition holds no creation for it."""
    workers, partitions = two
    for code, partition in zip("BC", partitions, strict=True):
        publish(world, chain(code * LENGTH)[0], partition)
    for _ in range(8):
        world.look(*workers)
    assert dead_lettered(world) == ["i", "i"]
    assert world.lag() == 0


@pytest.mark.logs_error("dead letter")
def test_without_a_cache_they_do_so_for_as_long_as_they_would_for_a_predecessor(world, two):
    workers, partitions = two
    world.backends.cache.close()
    for code, partition in zip("BC", partitions, strict=True):
        publish(world, chain(code * LENGTH)[0], partition)
    world.look(*workers)
    waited_s = 0
    while world.backends.queue.lag(["commands"], "worker"):
        world.look(*workers, after_ms=10_000)
        waited_s += 10
        assert waited_s < world.settings.predecessor_wait_s + 60
    assert waited_s >= world.settings.predecessor_wait_s
    assert dead_lettered(world) == ["i", "i"]


def test_a_creation_that_another_worker_has_yet_to_apply_is_waited_for(world, two):
    (mine, other), partitions = two
    for command in chain():
        publish(world, command, partitions[0])
    publish(world, birth(), partitions[1])
    for _ in range(20):
        world.look(mine)
    assert dead_lettered(world) == []
    other.run_once(poll_s=0)
    world.look(mine, after_ms=1_000)
    assert world.stored(CODE).version == 3
    world.look(mine, other)
    assert world.lag() == 0


@pytest.mark.logs_error("dead letter")
def test_what_is_dead_lettered_for_want_of_its_coupon_is_applied_when_both_are_replayed(world):
    for command in chain():
        publish(world, command, 0)
    for _ in range(3):
        world.look(world.worker)
    publish(world, birth(), 1)
    dead_letters.replay(world.backends.queue, list(dead_letters.browse(world.backends.queue)))
    for _ in range(5):
        world.look(world.worker)
    assert [entry.operation for entry in world.stored(CODE).history] == ["birth", "i", "u"]


def test_a_coupon_that_comes_between_two_reads_is_no_reason_to_reject_what_waits(world, two):
    """The first commands of a long chain are looked at before another worker creates it, the last ones after."""
    (worker, _), partitions = two
    publish(world, birth(), partitions[1])
    operations = [f"o{number}" for number in range(2 * COMMANDS_A_COUPON_MAX)]
    for number, operation in enumerate(operations):
        previous = operations[number - 1] if number else "birth"
        kind = Kind.CANCEL if number % 2 else Kind.ISSUE
        publish(world, a_command(kind, operation, previous, number + 1, code=CODE), partitions[0])
    worker.run_once(poll_s=0)
    get_many, coupon = world.backends.store.get_many, create(birth(), CODE)

    def and_then_it_comes(codes):
        codes = list(codes)
        found = get_many(codes)
        if CODE in codes:
            world.backends.store.save_many([coupon])
        return found

    world.backends.store.get_many = and_then_it_comes
    for _ in range(5):
        world.look(worker)
    assert world.stored(CODE).rejections == ()
    assert world.stored(CODE).version == 1 + len(operations)
