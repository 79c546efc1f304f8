"""What every search has to stand, but for rebuilding (``search_rebuild``).

A subclass gives the fixture ``url``, a fresh and empty namespace, and ``gone_url``, one of the same kind whose server
is away, with ``timeout_s=1``. A search that other processes see adds ``search_processes.SearchAcrossProcesses``.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.testing.backend import BackendContract
from backends.testing.coupons import NOW, changed, some_coupons
from backends.testing.interleaving import meet, moments
from backends.testing.threads import beside
from backends.testing.timing import unavailable_within
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import Coupon, Day
from coupon.domain.serialization import Document, document
from coupon.ports.search import Counts, Query, Search
from coupon.runtime.wiring import open_backend

Answer = TypeVar("Answer")
[NOBODY] = some_coupons(1)
CALLS: dict[str, Callable[[Search], Any]] = {
    "ping": lambda search: search.ping(),
    "create": lambda search: search.create(),
    "index_many": lambda search: search.index_many([NOBODY]),
    "find": lambda search: search.find(Query(user_id="ann"), 50),
    "count": lambda search: search.count(),
    "rebuild": lambda search: search.rebuild().__enter__(),
}
"""A call of each method that asks the server."""
USERS = ["u", "홍길동", "Zoë 🎟 O'Neill", '"; DROP TABLE documents; --', "\\u0041\\", " a b ", "*", "a/b?c#d", "🎟" * 128]


def opened(url: str) -> Search:
    return open_backend(Search, url)  # type: ignore[type-abstract]


def settles(ask: Callable[[], Answer], expected: Answer, within_s: float = 15.0) -> None:
    """The answer becomes the wanted one."""
    deadline = time.monotonic() + within_s
    while (answer := ask()) != expected:
        if time.monotonic() > deadline:
            assert answer == expected
        time.sleep(0.05)


def walk(search: Search, query: Query, limit: int = 10_000) -> Iterator[Document]:
    after = ""
    while True:
        page = search.find(query, limit, after)
        assert len(page) <= limit
        yield from page
        if len(page) < limit:
            return
        after = page[-1]["couponCode"]


def holds(search: Search, coupons: Sequence[Coupon]) -> None:
    """Search comes to hold the documents of these coupons and no others."""
    expected = sorted((document(coupon) for coupon in coupons), key=code_of)
    settles(lambda: list(walk(search, Query())), expected)


def code_of(found: Document) -> str:
    return found["couponCode"]


def answer_of(call: Callable[[Search], Any], search: Search) -> Any:
    """What the call answers or, without an answer, why."""
    try:
        return call(search)
    except BackendUnavailable as error:
        return error


def held(coupons: Sequence[Coupon], user: str, version: int = 2) -> list[Coupon]:
    return [changed(coupon, user)._replace(version=version) for coupon in coupons]


def on(day: str, coupons: Sequence[Coupon]) -> list[Coupon]:
    return [coupon._replace(expire_at=Day(day)) for coupon in coupons]


class SearchContract(BackendContract):
    many: ClassVar[int] = 12_000
    """Documents for a walk through many pages: fewer where a server in tests is slow, but some thousand."""

    role = Search

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError("the address of a fresh, empty search")

    @pytest.fixture
    def search(self, url: str) -> Iterator[Search]:
        search = opened(url)
        search.create()
        yield search
        search.close()

    @pytest.fixture
    def gone(self, gone_url: str) -> Iterator[Search]:
        search = opened(gone_url)
        yield search
        search.close()

    def test_what_was_indexed_is_found_within_two_seconds(self, search: Search) -> None:
        for turn in range(3):
            coupons = held(some_coupons(3), f"user{turn}")
            search.index_many(coupons)
            expected = sorted(coupon.code for coupon in coupons)
            settles(lambda u=f"user{turn}": [*map(code_of, walk(search, Query(u)))], expected, 2)  # type: ignore[misc]

    def test_a_document_is_the_coupon_by_its_wire_names(self, search: Search) -> None:
        new, issued, used = some_coupons(3)
        issued = changed(issued)
        used = changed(used)._replace(used_at=1_795_000_000_999)
        search.index_many([new, issued, used])
        holds(search, [new, issued, used])

    def test_making_the_index_again_loses_nothing(self, search: Search) -> None:
        coupons = some_coupons(3)
        search.index_many(coupons)
        search.create()
        holds(search, coupons)
        search.create()
        holds(search, coupons)

    # Each example has coupons of its own, and each class that inherits the test a search of its own.
    @settings(
        max_examples=5,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(st.lists(st.permutations([1, 2, 3, 4, 5, 5, 6, 6, 2]), min_size=15, max_size=15))
    def test_the_newest_document_stays_in_whatever_order_they_come(self, search: Search, orders: Any) -> None:
        coupons = some_coupons(len(orders))
        codes = {coupon.code for coupon in coupons}
        for versions in zip(*orders, strict=True):
            search.index_many(
                [
                    coupon._replace(version=version, user_id=f"user{version}")
                    for coupon, version in zip(coupons, versions, strict=True)
                ]
            )

        def holders() -> dict[str, str | None]:
            return {code_of(found): found["userId"] for found in walk(search, Query()) if code_of(found) in codes}

        settles(holders, dict.fromkeys(codes, cast(str | None, "user6")))
        assert [*walk(search, Query("user2")), *walk(search, Query("user5"))] == []

    def test_the_newest_of_one_batch_stays(self, search: Search) -> None:
        rising, falling = some_coupons(2)
        versions = [rising._replace(version=n) for n in (1, 2, 3)] + [falling._replace(version=n) for n in (3, 2, 1)]
        search.index_many(versions)
        holds(search, [rising._replace(version=3), falling._replace(version=3)])

    def test_what_is_there_already_is_success_and_changes_nothing(self, search: Search) -> None:
        coupons = some_coupons(10)
        search.index_many(coupons)
        search.index_many(coupons)
        search.index_many(held(coupons, "ann", version=1))
        holds(search, coupons)

    def test_a_large_version_is_newer_than_a_small_one(self, search: Search) -> None:
        [coupon] = some_coupons(1)
        search.index_many([coupon._replace(version=10)])
        search.index_many([coupon._replace(version=9)])
        search.index_many([coupon._replace(version=2**40)])
        search.index_many([coupon._replace(version=100)])
        holds(search, [coupon._replace(version=2**40)])

    def test_one_batch_holds_new_coupons_changed_ones_and_changes_of_unknown_ones(self, search: Search) -> None:
        new, issued, moved, unknown = some_coupons(4)
        search.index_many([issued, moved])
        changes = [changed(issued), *on("2026-12-30", [changed(moved)]), changed(unknown)]
        search.index_many([new, *changes])
        holds(search, [new, *changes])

    def test_a_change_of_the_holder_moves_the_coupon_between_their_lists(self, search: Search) -> None:
        [coupon] = some_coupons(1)
        for version, holder in enumerate(["ann", "bob", None, "ann"], start=2):
            search.index_many([coupon._replace(version=version, user_id=holder)])
            settles(lambda: [found["version"] for found in walk(search, Query())], [version])
            for user in ("ann", "bob"):
                codes = [code_of(found) for found in walk(search, Query(user_id=user))]
                assert codes == ([coupon.code] if user == holder else [])

    def test_queries_are_by_holder_by_day_and_by_both(self, search: Search) -> None:
        coupons = some_coupons(12)
        ann, bob, nobody = held(coupons[:4], "ann"), held(coupons[4:8], "bob"), coupons[8:]
        early = [*ann[:2], *bob[:2], *nobody[:2]]
        late = [*ann[2:], *bob[2:], *nobody[2:]]
        search.index_many([*on("2026-12-30", early), *on("2026-12-31", late)])

        def codes(user: str | None, day: str | None) -> list[str]:
            return [code_of(found) for found in walk(search, Query(user, Day(day) if day else None))]

        def sorted_codes(some: Sequence[Coupon]) -> list[str]:
            return sorted(coupon.code for coupon in some)

        settles(lambda: codes(None, None), sorted_codes(coupons))
        assert codes("ann", None) == sorted_codes(ann)
        assert codes(None, "2026-12-30") == sorted_codes(early)
        assert codes(None, "2026-12-31") == sorted_codes(late)
        assert codes("ann", "2026-12-31") == sorted_codes(ann[2:])
        assert codes("bob", "2026-12-30") == sorted_codes(bob[:2])
        assert codes("bob", "2026-12-29") == codes("carl", "2026-12-30") == codes("carl", None) == []

    def test_a_day_has_the_coupons_that_are_not_used_page_by_page(self, search: Search) -> None:
        coupons = on("2026-12-30", some_coupons(40))
        issued = held(coupons, "ann")
        used = [coupon._replace(used_at=NOW) if n % 4 else coupon for n, coupon in enumerate(issued)]
        search.index_many(coupons)
        search.index_many(used)
        left = sorted(coupon.code for coupon in used if not coupon.used)
        for query in (Query(unused_until=Day("2026-12-30")), Query("ann", Day("2026-12-30"))):
            settles(lambda q=query: [*map(code_of, walk(search, q))], left)  # type: ignore[misc]
            assert [*map(code_of, walk(search, query, limit=3))] == left
            assert [code_of(found) for found in search.find(query, 10, left[3])] == left[4:]
        settles(lambda: sum(1 for _ in walk(search, Query("ann"))), 40)

    def test_a_use_takes_a_coupon_out_of_its_days_list_and_its_undoing_puts_it_back(self, search: Search) -> None:
        first, other = on("2026-12-30", some_coupons(2))
        search.index_many([first, other])
        steps = [("ann", None), ("ann", NOW), ("ann", None), (None, None), ("bob", NOW)]
        for version, (holder, used_at) in enumerate(steps, start=2):
            search.index_many([first._replace(version=version, user_id=holder, used_at=used_at)])
            left = sorted([other.code] if used_at else [first.code, other.code])
            settles(lambda: [*map(code_of, walk(search, Query(unused_until=Day("2026-12-30"))))], left)
        search.index_many([first._replace(version=3)])  # an older one, late
        holds(search, [first._replace(version=6, user_id="bob", used_at=NOW), other])

    def test_any_user_has_a_list(self, search: Search) -> None:
        coupons = dict(zip(USERS, some_coupons(len(USERS)), strict=True))
        search.index_many([changed(coupon, user) for user, coupon in coupons.items()])
        holds(search, [changed(coupon, user) for user, coupon in coupons.items()])
        for user, coupon in coupons.items():
            assert [code_of(found) for found in search.find(Query(user_id=user), 10)] == [coupon.code]

    def test_cursors_give_every_document_once_while_others_are_indexed(self, search: Search) -> None:
        there, late = some_coupons(self.many), some_coupons(self.many // 12)
        for first in range(0, len(there), 3_000):
            search.index_many(there[first : first + 3_000])
        query = Query(unused_until=there[0].expire_at)
        settles(lambda: sum(1 for _ in walk(search, query)), len(there))
        with beside(lambda: [search.index_many(late[n : n + 50]) for n in range(0, len(late), 50)]):
            for limit in (700, 10_000):
                codes = [code_of(found) for found in walk(search, query, limit)]
                assert codes == sorted(set(codes))
                assert {coupon.code for coupon in there} <= set(codes) <= {coupon.code for coupon in there + late}
        settles(lambda: sum(1 for _ in walk(search, query)), len(there) + len(late))

    def test_a_page_holds_one_to_ten_thousand(self, search: Search) -> None:
        coupons = some_coupons(10_001)
        search.index_many(coupons)
        codes = sorted(coupon.code for coupon in coupons)
        settles(lambda: sum(1 for _ in walk(search, Query())), 10_001)
        assert [code_of(found) for found in search.find(Query(), 1)] == codes[:1]
        assert [code_of(found) for found in search.find(Query(), 10_000)] == codes[:-1]
        assert [code_of(found) for found in search.find(Query(), 1, codes[-2])] == codes[-1:]
        assert search.find(Query(), 10_000, codes[-1]) == []

    def test_nothing_to_index_is_done(self, search: Search) -> None:
        search.index_many([])
        assert search.find(Query(), 10) == []
        assert search.count() == Counts(0, 0, 0)

    def test_coupons_are_counted_by_their_newest_state(self, search: Search) -> None:
        coupons = some_coupons(30)
        issued = held(coupons[:12], "ann")
        used = [coupon._replace(version=3, used_at=NOW) for coupon in issued[:5]]
        for batch in (coupons, issued, used, issued, coupons):
            search.index_many(batch)
        settles(search.count, Counts(free=18, issued=7, used=5))
        search.index_many([coupon._replace(version=4, user_id=None, used_at=None) for coupon in used[:2]])
        settles(search.count, Counts(free=20, issued=7, used=3))

    @pytest.mark.parametrize(("first", "second"), [(2, 3), (3, 2)])
    def test_a_rival_that_comes_in_at_any_moment_does_not_bring_an_older_document_back(
        self, search: Search, first: int, second: int
    ) -> None:
        [alone], coupons = some_coupons(1), list[Coupon]()
        for moment in moments(lambda: search.index_many([alone])):
            coupons += some_coupons(1)
            search.index_many(coupons[-1:])
            rivals = [held(coupons[-1:], f"user{version}", version) for version in (first, second)]
            meet(moment, *(partial(search.index_many, each) for each in rivals))
        holds(search, [alone, *held(coupons, "user3", 3)])

    def test_many_threads_share_it(self, search: Search) -> None:
        coupons = some_coupons(50)

        def work(me: int) -> None:
            for version in range(me + 2, 42, 8):
                search.index_many(held(coupons, f"user{version}", version))
                search.find(Query(f"user{version}"), 100)

        with beside(*(partial(work, me) for me in range(8))):
            pass
        holds(search, held(coupons, "user41", 41))

    def test_an_index_that_nobody_made_is_empty_or_says_how_to_make_it(self, url: str) -> None:
        search = opened(url)
        answers = [answer_of(CALLS[method], search) for method in ("ping", "find", "index_many")]
        search.close()
        assert answers == [None, [], None] or all("coupon init" in str(answer) for answer in answers)

    def test_a_present_search_answers_a_ping(self, search: Search) -> None:
        search.ping()

    def test_every_method_is_tried_with_the_server_away(self) -> None:
        assert CALLS.keys() | {"from_url", "close"} == Search.__abstractmethods__

    @pytest.mark.parametrize("method", CALLS)
    def test_without_its_server_a_search_is_unavailable_and_says_so_in_time(self, gone: Search, method: str) -> None:
        unavailable_within(3, lambda: CALLS[method](gone))

    @pytest.mark.parametrize("method", CALLS)
    def test_a_closed_search_is_unavailable(self, search: Search, method: str) -> None:
        search.ping()
        search.close()
        search.close()
        with pytest.raises(BackendUnavailable):
            CALLS[method](search)
