"""What DynamoDB's store does at its edge: round trips, conflicts, throttling, lost replies, silence."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from backends.testing.coupons import a_full_coupon, changed, some_coupons
from backends.testing.store import CALLS, opened, walk
from backends.testing.timing import TRIES, unavailable_within
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.domain.model import Coupon
from coupon.ports.store import Store
from tests.contracts.dynamodb_edge import (
    Act,
    Edge,
    cancel,
    hang_up,
    leave_unprocessed,
    lose_the_reply,
    refuse,
    slowly,
    throttled,
)
from tests.services import Services

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("nothing_is_logged")]

PASSING_ERRORS: dict[str, Act] = {
    "throttled": refuse("ThrottlingException"),
    "over capacity": refuse("ProvisionedThroughputExceededException"),
    "too many requests": refuse("RequestLimitExceeded"),
    "internal error": refuse("InternalServerError", 500),
    "bad gateway": refuse("", 502),
    "hung up": hang_up,
}
PASSING_REASONS: dict[str, Act] = {
    "in progress": refuse("TransactionInProgressException"),
    "item throttled": cancel("ThrottlingError"),
    "item over capacity": cancel("ProvisionedThroughputExceeded"),
    "a rival transaction": cancel("TransactionConflict"),
}
REPAIRABLE = ["ResourceNotFoundException", "AccessDeniedException", "ExpiredTokenException", "SomethingNew"]


@pytest.fixture
def hasty(edge: Edge, store: Store, dynamodb_table: str) -> Iterator[Store]:
    """A store on the same table that gives up after half a second."""
    store = opened(f"dynamodb://{edge.address}?table={dynamodb_table}&timeout_s=0.5")
    yield store
    store.close()


def all_in(store: Store, coupons: list[Coupon]) -> bool:
    return store.get_many(c.code for c in coupons) == {c.code: c for c in coupons}


class TestRoundTrips:
    def test_a_hundred_coupons_are_one_round_trip(self, store: Store, edge: Edge) -> None:
        coupons = some_coupons(100)
        assert store.save_many(coupons) == set()
        assert all_in(store, coupons)
        assert store.save_many([changed(c) for c in coupons]) == set()
        assert edge.requests == ["TransactWriteItems", "BatchGetItem", "TransactWriteItems"]

    def test_nothing_is_no_round_trip(self, store: Store, edge: Edge) -> None:
        store.save_many([])
        store.get_many([])
        assert edge.requests == []

    def test_conflicts_cost_one_more_and_all_conflicts_none(self, store: Store, edge: Edge) -> None:
        coupons = some_coupons(100)
        store.save_many(coupons[:7])
        edge.requests.clear()
        assert len(store.save_many(coupons)) == 7
        assert len(edge.requests) == 2
        assert len(store.save_many(coupons)) == 100
        assert len(edge.requests) == 3

    def test_a_scan_is_a_round_trip_a_megabyte(self, store: Store, edge: Edge) -> None:
        coupons = [a_full_coupon(user="🎟" * 128) for _ in range(40)]
        store.save_many(coupons)
        edge.requests.clear()
        assert sorted(walk(store, 100_000)) == sorted(coupons)
        assert edge.requests == ["Scan"] * 3

    @pytest.mark.parametrize("in_flight", [1, 3])
    def test_so_many_are_under_way_at_once_as_the_url_says(
        self, store: Store, edge: Edge, dynamodb_table: str, in_flight: int
    ) -> None:
        edge.always = slowly
        busy = opened(f"dynamodb://{edge.address}?table={dynamodb_table}&timeout_s=10&in_flight={in_flight}")
        coupons = some_coupons(801)
        assert busy.save_many(coupons) == set()
        assert edge.most_at_once == in_flight
        assert len(edge.requests) == 9
        assert all_in(store, coupons)
        busy.close()


class TestReadsOfAFew:
    """Those that wait at the same time go out together."""

    def test_callers_share_round_trips_and_each_has_its_own(self, store: Store, edge: Edge) -> None:
        coupons = some_coupons(32)
        store.save_many(coupons)
        edge.requests.clear()
        edge.always = slowly
        barrier = threading.Barrier(16)

        def ask(first: int) -> dict[str, Coupon]:
            barrier.wait(10)
            return store.get_many(coupon.code for coupon in coupons[first : first + 2])

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(ask, range(0, 32, 2)))
        assert answers == [{c.code: c for c in coupons[first : first + 2]} for first in range(0, 32, 2)]
        assert len(edge.requests) < 8

    def test_callers_of_one_coupon_and_of_none_have_theirs(self, store: Store, edge: Edge) -> None:
        [coupon, missing] = some_coupons(2)
        store.save_many([coupon])
        edge.always = slowly
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(store.get_many, [[coupon.code], [missing.code]] * 4))
        assert answers == [{coupon.code: coupon}, {}] * 4

    def test_what_one_asks_is_not_refused_to_the_others(self, store: Store, edge: Edge) -> None:
        coupons = some_coupons(7)
        store.save_many(coupons)
        edge.always = slowly

        def ask(code: str) -> object:
            try:
                return store.get_many([code])
            except BackendRejected:
                return "refused"

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, [*(coupon.code for coupon in coupons), "x" * 3_000]))
        assert answers == [*({coupon.code: coupon} for coupon in coupons), "refused"]

    def test_each_is_told_when_the_store_is_away(self, hasty: Store, edge: Edge) -> None:
        edge.always = refuse("SomethingNew")

        def ask(coupon: Coupon) -> None:
            with pytest.raises(BackendUnavailable, match="SomethingNew"):
                hasty.get_many([coupon.code])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, some_coupons(8)))

    def test_a_coupon_that_is_throttled_is_so_for_those_who_ask_for_it(
        self, store: Store, edge: Edge, dynamodb_table: str
    ) -> None:
        [hot, *others] = some_coupons(8)
        store.save_many([hot, *others])
        edge.always = throttled(hot.code)
        hasty = opened(f"dynamodb://{edge.address}?table={dynamodb_table}&timeout_s=2")

        def ask(coupon: Coupon) -> object:
            try:
                return hasty.get_many([coupon.code])
            except BackendUnavailable:
                return "throttled"

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, [hot, *others]))
        hasty.close()
        assert answers == ["throttled", *({coupon.code: coupon} for coupon in others)]

    def test_a_request_that_gets_lost_holds_nobody_up_for_long(
        self, store: Store, edge: Edge, dynamodb_table: str
    ) -> None:
        coupons = some_coupons(8)
        store.save_many(coupons)
        patient = opened(f"dynamodb://{edge.address}?table={dynamodb_table}&timeout_s=8")
        patient.get_many([coupons[0].code])  # the client is made
        edge.acts += [lambda request, forward: time.sleep(12)]

        def ask(coupon: Coupon) -> float:
            started = time.monotonic()
            assert patient.get_many([coupon.code]) == {coupon.code: coupon}
            return time.monotonic() - started

        with ThreadPoolExecutor(8) as pool:
            assert max(pool.map(ask, coupons)) < 5
        patient.close()


class TestWhatPasses:
    @pytest.mark.parametrize("error", [*PASSING_ERRORS, *PASSING_REASONS])
    def test_a_save_is_tried_again(self, store: Store, edge: Edge, error: str) -> None:
        coupons = some_coupons(30)
        store.save_many(coupons[:3])
        edge.acts += [(PASSING_ERRORS | PASSING_REASONS)[error]] * 2
        assert store.save_many(coupons) == {c.code for c in coupons[:3]}
        assert all_in(store, coupons)

    @pytest.mark.parametrize("error", PASSING_ERRORS)
    def test_a_read_and_a_scan_are_tried_again(self, store: Store, edge: Edge, error: str) -> None:
        coupons = some_coupons(3)
        store.save_many(coupons)
        edge.acts += [PASSING_ERRORS[error]] * 2
        assert all_in(store, coupons)
        edge.acts += [PASSING_ERRORS[error]] * 2
        assert len(store.scan(10).coupons) == 3

    def test_keys_left_unprocessed_are_read_after(self, store: Store, edge: Edge) -> None:
        coupons = some_coupons(100)
        store.save_many(coupons)
        edge.acts += [leave_unprocessed(70), leave_unprocessed(70), leave_unprocessed(1)]
        assert all_in(store, coupons)

    def test_conflicts_beside_what_passes_are_conflicts(self, store: Store, edge: Edge) -> None:
        coupons = some_coupons(5)
        store.save_many(coupons[:2])
        edge.acts += [cancel("ConditionalCheckFailed", "None", "TransactionConflict")]
        assert store.save_many(coupons) == {c.code for c in coupons[:2]}
        assert all_in(store, coupons)

    @pytest.mark.parametrize("error", [*PASSING_ERRORS, *PASSING_REASONS])
    def test_a_save_gives_up_in_time(self, hasty: Store, edge: Edge, error: str) -> None:
        edge.always = (PASSING_ERRORS | PASSING_REASONS)[error]

        def save() -> None:
            edge.requests.clear()
            CALLS["save_many"](hasty)

        for _ in range(TRIES):
            unavailable_within(2, save)
            if 2 < len(edge.requests) < 20:
                break
        assert 2 < len(edge.requests) < 20

    def test_a_large_save_gives_up_as_soon(self, hasty: Store, edge: Edge) -> None:
        edge.always = refuse("ThrottlingException")
        unavailable_within(1.5, lambda: hasty.save_many(some_coupons(3_000)))

    def test_a_read_gives_up_in_time(self, hasty: Store, edge: Edge) -> None:
        edge.always = leave_unprocessed(100)
        unavailable_within(2, lambda: CALLS["get_many"](hasty))

    def test_a_lost_reply_is_not_a_conflict(self, store: Store, edge: Edge) -> None:
        coupons = some_coupons(30)
        edge.acts += [lose_the_reply]
        assert store.save_many(coupons) == set()
        assert all_in(store, coupons)


class TestWhatStays:
    @pytest.mark.parametrize("act", [refuse("ValidationException"), cancel("None", "ValidationError")])
    def test_what_lies_in_the_coupons_is_rejected(self, store: Store, edge: Edge, act: Act) -> None:
        edge.acts += [act]
        with pytest.raises(BackendRejected):
            store.save_many(some_coupons(3))
        assert len(edge.requests) == 1

    @pytest.mark.parametrize("code", REPAIRABLE)
    @pytest.mark.parametrize("method", CALLS)
    def test_what_an_operator_can_repair_is_unavailable(self, store: Store, edge: Edge, method: str, code: str) -> None:
        edge.always = refuse(code)
        with pytest.raises(BackendUnavailable):
            CALLS[method](store)

    def test_a_ping_is_never_a_rejection(self, store: Store, edge: Edge) -> None:
        edge.acts += [refuse("ValidationException")]
        with pytest.raises(BackendUnavailable):
            store.ping()

    def test_a_missing_table_is_named(self, services: Services, dynamodb_table: str) -> None:
        store = opened(f"dynamodb://{services.dynamodb}?table={dynamodb_table}")
        with pytest.raises(BackendUnavailable, match=dynamodb_table):
            store.ping()
        store.create()
        store.ping()
        store.close()
