"""What a request sees of a coupon, and what it may build on, whatever the cache has lost meanwhile."""

from contextlib import suppress
from dataclasses import replace

import pytest

from backends.cache.memory import MemoryCache
from backends.queue.memory import MemoryQueue
from backends.store.memory import MemoryStore
from coupon.acceptance.fences import Fences
from coupon.acceptance.reservations import Reservation, Reservations, Snapshot, Step, extends
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import CouponBusy, Malformed
from coupon.domain.model import Coupon, Kind, transition
from coupon.domain.protocol import decide
from coupon.domain.serialization import encode_coupon
from coupon.domain.topics import GROUP
from coupon.ports.queue import Message, Position
from coupon.runtime import settings
from coupon.runtime.cache_entries import UNFENCED, CacheOrAway, Claim, Confirmed, Entries, Provisional, cache_key
from tests.coupons import NOW, a_command, a_coupon

BORN = a_coupon()
CODE = BORN.code
ISSUED = transition(BORN, a_command(Kind.ISSUE, "i"))
CANCELLED = transition(ISSUED, a_command(Kind.CANCEL, "c", "i", 2))
ISSUED_BY_ANOTHER = transition(BORN, a_command(Kind.ISSUE, "j"))
ISSUED_TO_ANOTHER = transition(BORN, a_command(Kind.ISSUE, "i", user_id="bob"))
CANCELLED_AFTER_ANOTHER = transition(ISSUED_BY_ANOTHER, a_command(Kind.CANCEL, "c", "j", 2, accepted_at=NOW + 9))
_, LOST = decide(ISSUED_BY_ANOTHER, a_command(Kind.ISSUE, "i"), wait=False)
_, AHEAD = decide(ISSUED, a_command(Kind.CANCEL, "c", "ghost", 2), wait=False)


@pytest.mark.parametrize("stored", [BORN, ISSUED, CANCELLED])
def test_what_leads_on_from_the_store_is_right(stored):
    assert extends(stored, CANCELLED)


@pytest.mark.parametrize(
    ("cached", "stored"),
    [
        (BORN, ISSUED),
        (ISSUED, ISSUED_BY_ANOTHER),
        (ISSUED, ISSUED_TO_ANOTHER),
        (ISSUED, CANCELLED_AFTER_ANOTHER),
        (CANCELLED, CANCELLED_AFTER_ANOTHER),
        (CANCELLED, LOST),
        (CANCELLED, AHEAD),
        (ISSUED, None),
    ],
)
def test_what_is_past_or_on_another_branch_or_settled_is_wrong(cached, stored):
    """Also when both branches end with attempts of one operation."""
    assert not extends(stored, cached)


class Room:
    """A store with one coupon, a queue whose workers have committed ``committed``, and a cache on a turnable timer."""

    def __init__(self) -> None:
        self.ms = 0
        self.cache, self.store, self.queue = MemoryCache(lambda: self.ms / 1000), MemoryStore(), MemoryQueue()
        self.queue.create(["commands"])
        self.store.save_many([BORN])
        loaded = settings.load({"COUPON_CONF": "conf/test.env"})
        self.settings = replace(loaded, cache_ttl_s=60, reservation_ttl_s=5, reservation_wait_ms=100)
        self.code_deriver = CodeDeriver(self.settings.secret)
        self.consumer = self.queue.consumer(["commands"], GROUP)

    def process(self) -> Reservations:
        """The reservations of another web process."""
        fences = Fences(self.queue, "single", lambda: self.ms)
        return Reservations(
            CacheOrAway(self.cache),
            self.store,
            fences,
            self.code_deriver,
            self.settings,
            self.sleep,
            timer=lambda: self.ms,
        )

    def sleep(self, seconds: float) -> None:
        self.ms += max(1, round(seconds * 1000))

    def publish(self) -> None:
        """A command that waits."""
        self.queue.publish([Message("commands", CODE, b"{}")])

    def apply(self) -> None:
        """What waits is committed."""
        for delivery in self.consumer.poll(100, 0):
            self.consumer.commit({Position(delivery.topic, delivery.partition): delivery.offset + 1})

    def wipe(self) -> None:
        """The cache loses all that it has."""
        self.cache.delete_many(self.cache.held_keys())

    def entry(self):
        cached = self.cache.get(cache_key(CODE))
        return cached and Entries(self.code_deriver).decode(CODE, cached.value)


@pytest.fixture
def room():
    return Room()


@pytest.fixture
def reservations(room):
    """Of a process that knows that the cache has lost nothing."""
    reservations = room.process()
    for _ in range(2):
        reservations.read(CODE, "first")
        room.cache.delete_many([cache_key(CODE)])
        room.ms += 1_000
    return reservations


def reserve(reservations: Reservations, snapshot: Snapshot, after: Coupon) -> Reservation | None:
    (reservation,) = reservations.reserve([Step(snapshot, after)])
    return reservation


def confirm(reservations: Reservations, reservation: Reservation) -> bool:
    (is_confirmed,) = reservations.confirm([reservation])
    return is_confirmed


def accept(reservations: Reservations, after: Coupon) -> bool:
    while True:
        snapshot = reservations.read(CODE, after.last_operation)
        reservation = reserve(reservations, snapshot, after)
        if reservation is not None:
            return confirm(reservations, reservation)


def test_a_miss_is_believed_while_the_cache_has_lost_nothing_whatever_waits(room, reservations):
    room.publish()
    snapshot = reservations.read(CODE, "i")
    assert (snapshot.coupon, snapshot.fresh) == (BORN, True)
    assert room.entry() is None
    assert accept(reservations, ISSUED)
    assert room.entry() == Confirmed(ISSUED)
    assert reservations.read(CODE, "x").coupon == ISSUED


def test_after_a_wipe_the_store_is_believed_once_the_workers_have_passed_what_waited(room, reservations):
    room.publish()
    room.wipe()
    for reservations_ in (reservations, room.process()):
        with pytest.raises(CouponBusy):
            accept(reservations_, ISSUED)
    assert isinstance(room.entry(), Claim)
    room.apply()
    room.ms += 100
    assert accept(reservations, ISSUED)


def test_a_wipe_between_the_read_and_the_reservation_is_seen(room, reservations):
    snapshot = reservations.read(CODE, "i")
    room.publish()
    room.wipe()
    assert reserve(reservations, snapshot, ISSUED) is None
    assert isinstance(room.entry(), Claim)
    with pytest.raises(CouponBusy):
        reservations.read(CODE, "i")


def test_a_refusal_after_a_wipe_is_not_by_the_past(room, reservations):
    snapshot = reservations.read(CODE, "i")
    assert not reservations.is_behind(snapshot)
    room.wipe()
    assert reservations.is_behind(snapshot)


def test_an_eviction_is_seen(room):
    evictions = 0
    room.cache.evicted = lambda key: evictions
    reservations = room.process()
    for _ in range(2):
        reservations.read(CODE, "first")
        room.cache.delete_many([cache_key(CODE)])
        room.ms += 1_000
    assert accept(reservations, ISSUED)
    room.publish()
    room.cache.delete_many([cache_key(CODE)])
    evictions = 1
    with pytest.raises(CouponBusy):
        accept(reservations, ISSUED)
    room.apply()
    room.ms += 100
    assert accept(reservations, ISSUED)
    for _ in range(2):
        room.ms += 1_000
        reservations.read("B" * 19, "x")
    room.cache.delete_many([cache_key(CODE)])
    assert reservations.read(CODE, "x").epoch is not None  # a new one: misses are believed again


def test_an_entry_whose_life_is_over_is_no_proof_while_the_workers_are_as_far_behind(room, reservations):
    assert accept(reservations, ISSUED)
    room.publish()
    for _ in range(60):
        room.ms += 1_000
        with suppress(CouponBusy):
            reservations.read("B" * 19, "x")
    assert room.entry() is None
    with pytest.raises(CouponBusy):
        reservations.read(CODE, "x")
    room.apply()
    room.ms += 100
    assert reservations.read(CODE, "x").coupon == BORN


def test_of_two_that_missed_the_same_entry_one_reserves(room, reservations):
    first, second = reservations.read(CODE, "i"), reservations.read(CODE, "j")
    assert first.token is second.token is None
    assert reserve(reservations, first, ISSUED) is not None
    assert reserve(reservations, second, ISSUED_BY_ANOTHER) is None
    assert room.entry() == Provisional(ISSUED)


def test_a_claim_of_another_process_is_shared_and_replaced_by_one(room):
    """Both wait for the same fence; only one of them goes on."""
    one, other = room.process(), room.process()
    first, second = one.read(CODE, "i"), other.read(CODE, "j")
    assert first.token == second.token
    assert reserve(one, first, ISSUED) is not None
    assert reserve(other, second, ISSUED_BY_ANOTHER) is None


def test_a_fence_that_can_never_be_passed_is_set_anew(room, reservations):
    """Its topic was recreated, or is another layout's."""
    entries = Entries(room.code_deriver)
    for fence in [(("commands", 0, 99), ("commands", 1, 0)), (("issue", 0, 0),)]:
        room.cache.delete_many([cache_key(CODE)])
        room.cache.put(cache_key(CODE), entries.encode(CODE, Claim(fence)), 60)
        assert reservations.read(CODE, "i").coupon == BORN


def test_what_the_workers_had_committed_is_not_believed_for_long(room, reservations):
    """A topic may be recreated, and begins at 0 then."""
    for _ in range(3):
        room.publish()
    room.apply()
    fences = Fences(room.queue, "single", lambda: room.ms)
    fence = fences.of(CODE)
    assert fences.passed(fence)
    room.queue.committed = lambda positions, group: dict.fromkeys(positions, 0)
    assert fences.passed(fence)
    room.ms += 1_000
    assert not fences.passed(fence)


def test_nobody_builds_on_what_is_not_acknowledged(room, reservations):
    assert reserve(reservations, reservations.read(CODE, "i"), ISSUED)
    with pytest.raises(CouponBusy):
        reservations.read(CODE, "x")
    own = room.process().read(CODE, "i")
    assert (own.coupon, own.own) == (ISSUED, True)


def test_a_provisional_entry_that_ran_out_becomes_a_claim(room, reservations):
    """Its command may be in the queue: the store is believed only behind it."""
    reservation = reserve(reservations, reservations.read(CODE, "i"), ISSUED)
    room.publish()
    with pytest.raises(CouponBusy):
        reservations.read(CODE, "x")
    room.ms += room.settings.reservation_ttl_s * 1000
    with pytest.raises(CouponBusy):
        reservations.read(CODE, "x")
    assert isinstance(room.entry(), Claim)
    assert not confirm(reservations, reservation)
    room.apply()
    room.ms += 100
    assert reservations.read(CODE, "x").fresh


def test_no_clock_tells_how_long_a_provisional_entry_is_good_but_the_own_of_who_waits(room, reservations):
    reserve(reservations, reservations.read(CODE, "i"), ISSUED)
    room.ms += 50_000
    late = room.process()
    with pytest.raises(CouponBusy):
        late.read(CODE, "x")
    assert room.entry() == Provisional(ISSUED)


def test_the_entry_of_another_is_left_alone(room, reservations):
    reservation = reserve(reservations, reservations.read(CODE, "i"), ISSUED)
    theirs = Entries(room.code_deriver).encode(CODE, Confirmed(ISSUED_BY_ANOTHER))
    room.cache.put(cache_key(CODE), theirs, 60)
    assert not confirm(reservations, reservation)
    reservations.give_back(reservation)
    assert room.cache.get(cache_key(CODE)).value == theirs


def test_what_the_queue_has_certainly_not_got_leaves_a_claim(room, reservations):
    """It took the place of an entry whose commands may still wait."""
    assert accept(reservations, ISSUED)
    reservation = reserve(reservations, reservations.read(CODE, "c"), CANCELLED)
    reservations.give_back(reservation)
    assert room.entry() == UNFENCED


@pytest.mark.parametrize(
    "planted",
    [
        b"",
        b"C{",
        b"C" + encode_coupon(ISSUED),
        b"x" * 8 + b"C" + encode_coupon(ISSUED),
        Entries(CodeDeriver("another secret, long enough")).encode(CODE, Confirmed(ISSUED)),
        Entries(CodeDeriver("known-to-everybody-and-only-for-tests")).encode("B" * 19, Confirmed(ISSUED)),
    ],
    ids=["empty", "no JSON", "not sealed", "sealed by nobody", "another secret", "another coupon's"],
)
def test_what_was_not_written_here_is_not_believed_and_becomes_a_claim(room, reservations, planted):
    room.cache.put(cache_key(CODE), planted, 60)
    assert reservations.read(CODE, "x").coupon == BORN
    assert isinstance(room.entry(), Claim)


def test_an_entry_of_one_coupon_is_none_of_another():
    entries = Entries(CodeDeriver("a secret for tests only"))
    with pytest.raises(Malformed):
        entries.decode("B" * 19, entries.encode(CODE, Confirmed(BORN)))


def test_ones_own_reservation_is_not_gone_on_with_when_it_may_build_on_what_was_lost(room, reservations):
    """Its process could not reach the cache any more, or died, before it checked whether a miss was one."""
    assert accept(reservations, ISSUED)
    room.publish()
    room.wipe()
    begun = transition(BORN, a_command(Kind.ISSUE, "k", number=BORN.next_number(fresh=True)))
    room.cache.add(cache_key(CODE), Entries(room.code_deriver).encode(CODE, Provisional(begun)), 60)
    with pytest.raises(CouponBusy):
        reservations.read(CODE, "k")
    room.apply()
    room.ms += 1_000
    assert reservations.read(CODE, "k").own
    room.store.save_many([ISSUED._replace(revision=BORN.revision + 1)])
    with pytest.raises(CouponBusy):
        reservations.read(CODE, "k")
