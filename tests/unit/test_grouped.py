"""Commands of several requests that are accepted together, and those that are left to be accepted alone."""

from contextlib import contextmanager

import pytest

from backends.cache.memory import MemoryCache
from backends.queue.memory import MemoryQueue
from backends.store.memory import MemoryStore
from coupon.acceptance.fences import Fences
from coupon.acceptance.grouped import APART_BRIEFLY_MS, APART_MS, Attempt, GroupedCommands
from coupon.acceptance.idempotency import IdempotencyKeys
from coupon.acceptance.operations import ChangeRef
from coupon.acceptance.requests import Caller, change_request, command_of
from coupon.acceptance.reservations import Reservations
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendRejected, BackendUnavailable, IdempotencyKeyReused, Unreadable
from coupon.domain.model import Kind, transition
from coupon.domain.serialization import encode_command
from coupon.ports.group_commit import NotServed
from coupon.ports.queue import Message
from coupon.runtime import settings
from coupon.runtime.cache_entries import CacheOrAway, Claim, Confirmed, Entries, Provisional, cache_key
from coupon.runtime.logs import traceparent
from tests.coupons import NOW, a_coupon

CODES = [f"GROUPEDCOUPONCODE{number:02}" for number in range(4)]
ONE, TWO, THREE, FOUR = CODES
LATER = 10_000


class Gathered:
    """A group of those that were there before, and the one that leads. Or it raises ``failure``."""

    def __init__(self, serve):
        self._serve = serve
        self.others, self.failure = [], None

    def do(self, work, deadline, begin_by=None, patience=None):
        if self.failure:
            raise self.failure
        self._serve([*self.others, work], deadline)


class House:
    def __init__(self, monkeypatch):
        self.ms, self.calls, self.inside = 0, [], 0
        self.cache, self.store, self.queue = MemoryCache(), MemoryStore(), MemoryQueue()
        self.queue.create(["commands"])
        self.store.save_many([a_coupon(code=code) for code in CODES])
        loaded = settings.load({"COUPON_CONF": "conf/test.env"})
        self.zone, self.code_deriver = loaded.timezone, CodeDeriver(loaded.secret)
        self.keys = IdempotencyKeys(CacheOrAway(self.cache), self.code_deriver, 1)
        fences = Fences(self.queue, "single", self.timer)
        self.reservations = Reservations(
            CacheOrAway(self.cache), self.store, fences, self.code_deriver, loaded, timer=self.timer
        )
        self.group = None
        self.grouped = GroupedCommands(
            self.reservations, self.keys, self.decide, self.publish, self.timer, self.make_group
        )
        for _ in range(2):  # the cache is known to have lost nothing
            self.reservations.read(ONE, "first")
            self.cache.delete_many([cache_key(ONE)])
            self.ms += 1_000
        for backend, name in ((self.cache, "get_many"), (self.cache, "write_many"), (self.store, "get_many")):
            monkeypatch.setattr(backend, name, self.counted(f"{type(backend).__name__}.{name}", getattr(backend, name)))

    def counted(self, name, method):
        def call(*arguments):
            if not self.inside:
                self.calls.append(name)
                keys = [each.key for each in arguments[0]] if name.endswith("write_many") else []
                assert len(set(keys)) == len(keys), "the contract wants keys that differ"
            self.inside += 1
            try:
                return method(*arguments)
            finally:
                self.inside -= 1

        return call

    def timer(self):
        return self.ms

    def make_group(self, serve):
        self.group = Gathered(serve)
        return self.group

    def decide(self, request, snapshot):
        command = command_of(request, snapshot.coupon, NOW, self.zone, fresh=snapshot.fresh, reserved=True)
        return command, transition(snapshot.coupon, command)

    def publish(self, *commands):
        self.calls.append("publish")
        self.queue.publish([Message("commands", each.code, encode_command(each)) for each in commands])

    def attempt(self, code, key=None, user="ann", kind=Kind.ISSUE, traceparent=""):
        request = change_request(kind, code, user, Caller("shop", key), self.code_deriver, traceparent)
        return Attempt(request, self.ms + LATER)

    def accept(self, *attempts):
        """What the last of the group was told."""
        *self.group.others, last = attempts
        return self.grouped.accept(last, lambda _attempt: None)

    def entry(self, code):
        cached = self.cache.get(cache_key(code))
        return cached and Entries(self.code_deriver).decode(code, cached.value)

    @property
    def published(self):
        return sum(self.queue.ends(["commands"]).values())


@pytest.fixture
def house(monkeypatch):
    return House(monkeypatch)


def test_a_group_takes_one_call_for_each_step(house):
    attempts = [house.attempt(code, key=code) for code in CODES]
    assert house.accept(*attempts) == attempts[-1].accepted
    assert house.calls == [
        "MemoryCache.get_many",
        "MemoryStore.get_many",
        "MemoryCache.write_many",  # the keys
        "MemoryCache.write_many",  # the reservations
        "publish",
        "MemoryCache.write_many",  # the confirmations
    ]
    for attempt in attempts:
        command = attempt.accepted.command
        assert attempt.accepted.ref == ChangeRef(attempt.request.operation, command.number, attempt.request.code)
        assert attempt.accepted.before == a_coupon(code=command.code)
        assert house.entry(command.code) == Confirmed(transition(a_coupon(code=command.code), command))
    assert house.published == len(CODES)


def test_each_of_a_group_has_the_traceparent_of_its_own_request(house):
    """Whoever leads the group decides for all of it."""
    attempts = [house.attempt(code, traceparent=f"of {code}") for code in CODES]
    leading = traceparent.set("of the leader")
    try:
        house.accept(*attempts)
    finally:
        traceparent.reset(leading)
    assert [attempt.accepted.command.traceparent for attempt in attempts] == [f"of {code}" for code in CODES]


def test_what_is_in_the_cache_is_built_on(house):
    house.accept(house.attempt(ONE))
    accepted = house.accept(house.attempt(TWO), house.attempt(ONE, kind=Kind.USE))
    assert (accepted.command.previous_version, accepted.before) == (2, None)


def test_the_second_command_on_a_coupon_is_accepted_alone(house):
    first, second = house.attempt(ONE), house.attempt(ONE, user="bob")
    assert house.accept(first, second) is None
    assert first.accepted
    assert house.published == 1


def test_what_has_to_wait_or_is_refused_is_accepted_alone(house):
    refused, unknown, behind = (
        house.attempt(ONE, kind=Kind.USE),
        house.attempt("NOBODYKNOWSTHISCODE"),
        house.attempt(TWO),
    )
    other = house.attempt(THREE)
    house.cache.put(cache_key(TWO), Entries(house.code_deriver).encode(TWO, Claim(None)), 60)
    assert house.accept(refused, unknown, behind, other) == other.accepted is not None
    assert [attempt.result() for attempt in (refused, unknown, behind)] == [None] * 3
    assert house.published == 1


def test_nothing_is_built_on_what_is_not_acknowledged(house):
    provisional = Provisional(a_coupon(code=ONE))
    house.cache.put(cache_key(ONE), Entries(house.code_deriver).encode(ONE, provisional), 60)
    assert house.accept(house.attempt(ONE)) is None
    assert house.entry(ONE) == provisional
    assert house.published == 0


def test_a_coupon_that_cannot_be_read_holds_up_no_other(house, monkeypatch):
    read = house.store.get_many

    def partly(codes):
        raise Unreadable({ONE: "no JSON"}, {code: coupon for code, coupon in read(codes).items() if code != ONE})

    monkeypatch.setattr(house.store, "get_many", partly)
    bad, good = house.attempt(ONE), house.attempt(TWO)
    assert house.accept(bad, good) == good.accepted is not None
    assert bad.result() is None


def test_what_was_accepted_before_with_the_key_is_told_again(house):
    first = house.accept(house.attempt(ONE, key="k"))
    again = house.accept(house.attempt(ONE, key="k"))
    assert (again.ref, again.command) == (first.ref, None)
    assert house.published == 1


def test_a_key_of_another_request_is_looked_at_alone(house):
    house.accept(house.attempt(ONE, key="k"))
    other = house.attempt(TWO, key="k")
    assert house.accept(other) is None
    assert other.bound is None
    assert house.published == 1
    with pytest.raises(IdempotencyKeyReused):
        house.keys.bind("shop", "k", other.request.operation)


def test_of_two_with_one_key_the_first_has_it(house):
    first, second = house.attempt(ONE, key="k"), house.attempt(TWO, key="k")
    other = house.attempt(THREE, key="l")
    assert house.accept(first, second, other)
    assert (first.accepted is None, second.result(), second.bound) == (False, None, None)
    assert house.published == 2


def test_an_error_that_nobody_expects_is_its_own_requests(house):
    def poisoned(request, snapshot):
        if request.code == ONE:
            raise RuntimeError("poison")
        return house.decide(request, snapshot)

    house.grouped = GroupedCommands(
        house.reservations, house.keys, poisoned, house.publish, house.timer, house.make_group
    )
    bad, good = house.attempt(ONE), house.attempt(TWO)
    assert house.accept(bad, good) == good.accepted is not None
    assert bad.result() is None


def test_who_is_not_served_is_accepted_alone_in_the_context_of_patience(house):
    inside = []

    @contextmanager
    def patience():
        inside.append(True)
        yield
        inside.clear()

    grouped = GroupedCommands(
        house.reservations, house.keys, house.decide, house.publish, house.timer, house.make_group, patience
    )
    house.group.failure = NotServed()
    assert grouped.accept(house.attempt(ONE), lambda _attempt: list(inside)) == [True]
    assert inside == []


def test_a_request_that_was_too_slow_reserves_nothing(house):
    late = house.attempt(ONE)
    late.deadline = house.ms
    assert house.accept(late, house.attempt(TWO))
    assert late.result() is None
    assert house.entry(ONE) is None


def test_a_snapshot_that_is_no_longer_true_is_accepted_alone(house, monkeypatch):
    read = house.store.get_many

    def while_another_reserves(codes):
        found = read(codes)
        entry = Entries(house.code_deriver).encode(ONE, Claim(None))
        house.cache.add(cache_key(ONE), entry, 60)
        return found

    monkeypatch.setattr(house.store, "get_many", while_another_reserves)
    rival, other = house.attempt(ONE), house.attempt(TWO)
    assert house.accept(rival, other) == other.accepted is not None
    assert rival.result() is None
    assert house.published == 1


def test_after_a_loss_of_the_cache_nothing_is_reserved(house, monkeypatch):
    read = house.store.get_many

    def while_the_cache_is_emptied(codes):
        found = read(codes)
        house.cache.delete_many(house.cache.held_keys())
        return found

    monkeypatch.setattr(house.store, "get_many", while_the_cache_is_emptied)
    assert house.accept(house.attempt(ONE), house.attempt(TWO)) is None
    assert isinstance(house.entry(ONE), Claim)
    assert isinstance(house.entry(TWO), Claim)
    assert house.published == 0


@pytest.mark.parametrize(("error", "left"), [(BackendUnavailable, Provisional), (BackendRejected, Claim)])
def test_when_the_publish_fails_all_are_told_and_then_each_is_accepted_alone(house, monkeypatch, error, left):
    def fail(_messages):
        raise error("no")

    with monkeypatch.context() as patched:
        patched.setattr(house.queue, "publish", fail)
        one, two = house.attempt(ONE), house.attempt(TWO)
        with pytest.raises(error, match="no"):
            house.accept(one, two)
        with pytest.raises(error, match="no"):
            one.result()
        for code in (ONE, TWO):
            assert isinstance(house.entry(code), left)
    house.calls.clear()
    assert house.accept(house.attempt(THREE)) is None
    assert house.calls == []
    house.ms += APART_MS
    assert house.accept(house.attempt(THREE))


def test_who_cannot_be_confirmed_is_told_so_alone(house, monkeypatch):
    publish = house.queue.publish

    def while_another_replaces(messages):
        publish(messages)
        house.cache.delete_many([cache_key(ONE)])

    monkeypatch.setattr(house.queue, "publish", while_another_replaces)
    lost, other = house.attempt(ONE), house.attempt(TWO)
    assert house.accept(lost, other)
    with pytest.raises(BackendUnavailable, match="reservation was lost"):
        lost.result()


def test_a_failure_before_the_publish_leaves_each_to_itself(house, monkeypatch):
    def fail(*_):
        raise BackendUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(house.store, "get_many", fail)
        assert house.accept(house.attempt(ONE), house.attempt(TWO)) is None
    assert house.published == 0
    assert house.accept(house.attempt(ONE)) is None
    house.ms += APART_BRIEFLY_MS
    assert house.accept(house.attempt(ONE))


def test_who_was_not_served_is_accepted_alone_and_who_may_be_does_not_know(house):
    house.group.failure = NotServed()
    assert house.accept(house.attempt(ONE)) is None
    house.group.failure = TimeoutError()
    with pytest.raises(BackendUnavailable, match="nobody knows"):
        house.accept(house.attempt(ONE))
