"""What every store must do. A subclass gives three fixtures:

- ``url``: a fresh and empty store;
- ``gone_url``: a store of the same kind whose server is unavailable, with ``timeout_s=1``;
- ``spoil``: a function that makes a stored coupon unreadable.

``store_records.StoreRecordsContract`` is for the records.
A store that other processes see adds ``store_processes.StoreAcrossProcesses``.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest

from backends.testing.asking import ANSWERED, UNAVAILABLE, at_once
from backends.testing.backend import BackendContract
from backends.testing.coupons import a_full_coupon, after, changed, some_coupons
from backends.testing.threads import beside, together
from backends.testing.timing import unavailable_within
from coupon.domain.errors import BackendRejected, BackendUnavailable, Unreadable
from coupon.domain.model import Coupon, Day
from coupon.domain.serialization import encode_coupon
from coupon.ports.store import Record, Store
from coupon.runtime.wiring import open_backend

[NOBODY] = some_coupons(1)
CALLS: dict[str, Callable[[Store], Any]] = {
    "ping": lambda store: store.ping(),
    "create": lambda store: store.create(),
    "get_many": lambda store: store.get_many([NOBODY.code]),
    "save_many": lambda store: store.save_many([NOBODY]),
    "scan": lambda store: store.scan(10),
    "get_records": lambda store: store.get_records("campaign", ["spring"]),
    "save_groups": lambda store: store.save_groups([[Record("campaign", "spring", 1, "{}")]]),
    "scan_records": lambda store: store.scan_records("campaign", 10),
}
"""A call of each method that asks the server."""


def opened(url: str) -> Store:
    return open_backend(Store, url)  # type: ignore[type-abstract]


def walk(store: Store, limit: int) -> Iterator[Coupon]:
    page = store.scan(limit)
    while True:
        assert len(page.coupons) <= limit
        yield from page.coupons
        if page.next is None:
            return
        page = store.scan(limit, page.next)


class StoreContract(BackendContract):
    role = Store

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError("the address of a fresh, empty store")

    @pytest.fixture
    def spoil(self) -> Callable[[str], None]:
        raise NotImplementedError("what makes a row that cannot be read of the one with that code")

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        store = opened(url)
        store.create()
        yield store
        store.close()

    @pytest.fixture
    def gone(self, gone_url: str) -> Iterator[Store]:
        store = opened(gone_url)
        yield store
        store.close()

    @pytest.mark.parametrize("state", ["created", "issued", "used", "full"])
    def test_a_coupon_is_read_as_it_was_saved(self, store: Store, state: str) -> None:
        coupon = a_full_coupon() if state == "full" else after(state)
        save_along(store, coupon)
        assert store.get_many([coupon.code]) == {coupon.code: coupon}

    @pytest.mark.parametrize(
        "user", ["u", "홍길동", "Zoë 🎟 O'Neill", '"; DROP TABLE coupons; --', "\\u0041\\", "x" * 128]
    )
    def test_any_user_may_hold_a_coupon(self, store: Store, user: str) -> None:
        coupon = after("issued", user=user)
        save_along(store, coupon)
        assert store.get_many([coupon.code])[coupon.code].user_id == user

    def test_what_is_not_there_is_left_out(self, store: Store) -> None:
        here, missing = some_coupons(2)
        store.save_many([here])
        assert store.get_many([missing.code, here.code]) == {here.code: here}
        assert store.get_many([missing.code]) == {}

    def test_nothing_asked_is_nothing_answered(self, store: Store) -> None:
        assert store.get_many([]) == {}
        assert store.save_many([]) == set()

    def test_codes_may_come_as_any_iterable_and_more_than_once(self, store: Store) -> None:
        coupons = some_coupons(3)
        store.save_many(coupons)
        codes = [coupon.code for coupon in coupons] * 2
        assert store.get_many(code for code in codes) == {coupon.code: coupon for coupon in coupons}

    def test_a_thousand_coupons_are_read_at_once(self, store: Store) -> None:
        coupons = some_coupons(1_050)
        assert store.save_many(coupons) == set()
        assert store.get_many(coupon.code for coupon in coupons) == {coupon.code: coupon for coupon in coupons}

    def test_making_the_tables_again_loses_nothing(self, store: Store) -> None:
        [coupon] = some_coupons(1)
        store.save_many([coupon])
        store.create()
        assert store.get_many([coupon.code]) == {coupon.code: coupon}

    @pytest.mark.parametrize("state", ["created", "issued", "used"])
    def test_a_creation_never_overwrites(self, store: Store, state: str) -> None:
        there = after(state)
        save_along(store, there)
        again = after("created", code=there.code)._replace(expire_at=Day("2099-12-31"))
        assert store.save_many([again]) == {there.code}
        assert store.get_many([there.code]) == {there.code: there}

    def test_a_change_of_what_is_not_there_fails(self, store: Store) -> None:
        coupon = after("issued")
        assert store.save_many([coupon]) == {coupon.code}
        assert store.get_many([coupon.code]) == {}

    @pytest.mark.parametrize("revision", [0, 1, 2, 3, 5, 300])
    def test_only_the_next_revision_is_written(self, store: Store, revision: int) -> None:
        there = after("used")  # of revision 3
        save_along(store, there)
        successor = changed(there)
        assert store.save_many([successor._replace(revision=revision)]) == {there.code}
        assert store.get_many([there.code]) == {there.code: there}
        assert store.save_many([successor]) == set()
        assert store.get_many([there.code]) == {there.code: successor}

    def test_the_condition_compares_the_revision_and_not_the_version(self, store: Store) -> None:
        there = after("created")
        store.save_many([there])
        rejected = changed(there)._replace(version=there.version, history=there.history)
        rival = changed(there, user="rival")
        assert store.save_many([rejected]) == set()
        assert store.save_many([rival]) == {there.code}
        assert store.get_many([there.code]) == {there.code: rejected}

    def test_a_conflict_hinders_nobody_else(self, store: Store) -> None:
        coupons = some_coupons(250)
        store.save_many(coupons[::2])
        store.save_many([changed(coupon, user="first") for coupon in coupons[::10]])
        changes = [changed(coupon, user="second") if place % 2 == 0 else coupon for place, coupon in enumerate(coupons)]
        conflicts = {coupon.code for coupon in coupons[::10]}
        assert store.save_many(changes) == conflicts
        found = store.get_many(coupon.code for coupon in coupons)
        assert {code for code, coupon in found.items() if coupon.user_id == "first"} == conflicts
        assert [found[coupon.code] for coupon in changes if coupon.code not in conflicts] == [
            coupon for coupon in changes if coupon.code not in conflicts
        ]

    def test_saving_again_changes_nothing_and_says_so(self, store: Store) -> None:
        coupons = some_coupons(120)
        store.save_many(coupons[:60])  # the reply got lost
        assert store.save_many(coupons) == {coupon.code for coupon in coupons[:60]}
        assert store.get_many(coupon.code for coupon in coupons) == {coupon.code: coupon for coupon in coupons}

    def test_a_batch_may_weigh_more_than_four_megabytes(self, store: Store) -> None:
        coupons = [a_full_coupon(user="🎟" * 128) for _ in range(100)]
        assert sum(len(encode_coupon(coupon)) for coupon in coupons) > 6_000_000
        assert store.save_many(coupons) == set()
        assert store.get_many(coupon.code for coupon in coupons) == {coupon.code: coupon for coupon in coupons}

    def test_an_empty_store_is_one_empty_page(self, store: Store) -> None:
        assert list(walk(store, 10)) == []

    def test_a_scan_gives_every_coupon_exactly_once_while_others_are_created(self, store: Store) -> None:
        large = [a_full_coupon(user="🎟" * 128) for _ in range(50)]  # megabytes, where a page may end before the limit
        there, late = [*large, *some_coupons(4_950)], some_coupons(1_000)
        for first in range(0, len(there), 500):
            store.save_many(there[first : first + 500])
        with beside(lambda: [store.save_many(late[n : n + 50]) for n in range(0, 1_000, 50)]):
            for limit in (400, 100_000):
                codes = [coupon.code for coupon in walk(store, limit)]
                assert len(codes) == len(set(codes))
                assert {coupon.code for coupon in there} <= set(codes) <= {coupon.code for coupon in there + late}

    def test_a_scan_gives_coupons_as_they_are(self, store: Store) -> None:
        coupons = [a_full_coupon(), *some_coupons(2)]
        store.save_many(coupons)
        assert sorted(walk(store, 1)) == sorted(coupons)

    def test_codes_to_read_may_come_from_a_scan(self, store: Store) -> None:
        coupons = some_coupons(5)
        store.save_many(coupons)
        assert store.get_many(coupon.code for coupon in walk(store, 2)).keys() == {coupon.code for coupon in coupons}

    @pytest.mark.parametrize("number", [1, 3, 250])
    def test_what_cannot_be_read_is_told_by_its_code_and_hides_no_other(
        self, store: Store, spoil: Callable[[str], None], number: int
    ) -> None:
        coupons = some_coupons(number)
        store.save_many(coupons)
        spoilt, *others = coupons
        spoil(spoilt.code)
        with pytest.raises(Unreadable, match=spoilt.code) as unreadable:
            store.get_many(coupon.code for coupon in coupons)
        assert unreadable.value.reasons.keys() == {spoilt.code}
        assert unreadable.value.found == {coupon.code: coupon for coupon in others}
        assert store.get_many(coupon.code for coupon in others) == unreadable.value.found

    @pytest.mark.parametrize("limit", [1, 2, 100])
    def test_a_scan_tells_what_cannot_be_read_and_goes_on(
        self, store: Store, spoil: Callable[[str], None], limit: int
    ) -> None:
        coupons = some_coupons(7)
        store.save_many(coupons)
        spoilt = {coupon.code for coupon in coupons[::3]}
        for code in spoilt:
            spoil(code)
        page = store.scan(limit)
        pages = [page]
        while page.next is not None:
            page = store.scan(limit, page.next)
            pages.append(page)
        assert sorted(code for page in pages for code in page.unreadable) == sorted(spoilt)
        assert sorted(coupon for page in pages for coupon in page.coupons) == sorted(
            coupon for coupon in coupons if coupon.code not in spoilt
        )

    def test_what_cannot_be_read_is_not_overwritten_by_a_creation(
        self, store: Store, spoil: Callable[[str], None]
    ) -> None:
        spoilt, other = some_coupons(2)
        store.save_many([spoilt])
        spoil(spoilt.code)
        assert store.save_many([spoilt, other]) == {spoilt.code}
        with pytest.raises(Unreadable):
            store.get_many([spoilt.code])
        assert store.get_many([other.code]) == {other.code: other}

    @pytest.mark.parametrize(
        "cursor", ["", "~", "~zz", "-1", "no cursor", "99999999999", "'; --", "a" * 19, "Ä" * 19, "%00" * 999]
    )
    def test_a_cursor_that_no_scan_gave_is_rejected(self, store: Store, cursor: str) -> None:
        store.save_many(some_coupons(3))
        with pytest.raises(BackendRejected):
            store.scan(2, cursor)

    def test_of_many_threads_one_wins_each_round(self, store: Store) -> None:
        coupon, wins = after("created"), list[int]()
        store.save_many([coupon])

        def race(me: int, barrier: threading.Barrier) -> None:
            mine = coupon
            for turn in range(20):
                barrier.wait()
                mine = changed(mine, user=f"{me}")
                if not (store.save_groups([[mine]]) if me % 2 else store.save_many([mine])):
                    wins.append(turn)
                barrier.wait()
                mine = store.get_many([coupon.code])[coupon.code]

        together(8, race)
        assert sorted(wins) == list(range(20))

    def test_what_nobody_has_made_is_unavailable_or_made_when_it_is_used(self, url: str) -> None:
        """A missing table is what an operator can repair."""
        with closing(opened(url)) as store:
            found = at_once({name: partial(call, store) for name, call in CALLS.items() if name != "create"}, 30)
        assert {name: how for name, how in found.items() if how not in (ANSWERED, UNAVAILABLE)} == {}

    def test_a_present_store_answers_a_ping(self, store: Store) -> None:
        store.ping()

    def test_every_method_is_tried_with_the_server_away(self) -> None:
        assert CALLS.keys() | {"from_url", "close"} == Store.__abstractmethods__

    @pytest.mark.parametrize("method", CALLS)
    def test_without_its_server_a_store_is_unavailable_and_says_so_in_time(self, gone: Store, method: str) -> None:
        unavailable_within(3, lambda: CALLS[method](gone))

    @pytest.mark.parametrize("method", CALLS)
    def test_a_closed_store_is_unavailable(self, store: Store, method: str) -> None:
        store.ping()
        store.close()
        store.close()
        with pytest.raises(BackendUnavailable):
            CALLS[method](store)


def save_along(store: Store, coupon: Coupon) -> None:
    """Save the coupon as the store would have come to it, revision by revision."""
    for revision in range(1, coupon.revision + 1):
        assert store.save_many([coupon._replace(revision=revision)]) == set()
