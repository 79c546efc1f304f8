"""A server that is silent, slow or cut off: for backends with a server of their own. One class a role:

    class TestMyStoreInOutages(StoreOutages):
        @pytest.fixture
        def server(self) -> str: ...                    # host:port of the real server

        @pytest.fixture
        def url_at(self) -> Callable[[str], str]: ...   # of a host:port, the URL of a fresh backend there

The URL has ``timeout_s`` of a second or less, and names the same fresh namespace for every address of a test.
All methods are asked at once, each by a thread of its own: a test takes as long as the slowest of them.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from backends.testing import cache_failures, queue_failures, search, store
from backends.testing.asking import Calls
from backends.testing.behind_a_link import Outages, each_reply_lost
from backends.testing.cache_rivals import act, token_of
from backends.testing.coupons import a_full_coupon, some_coupons
from backends.testing.links import Link
from backends.testing.queue_driving import ends, poll, values
from backends.testing.timing import until_available
from coupon.domain.errors import BackendUnavailable
from coupon.ports.cache import Cache
from coupon.ports.queue import Message, Position, Queue
from coupon.ports.search import Search
from coupon.ports.store import GROUP_MAX, Store

OF_ANN = search.held(some_coupons(50), "ann")


class CacheOutages(Outages[Cache]):
    role, large = Cache, "get"
    token: Any = None
    """Of the entry k."""

    @pytest.fixture(autouse=True)
    def _token(self, server: str, url_at: Callable[[str], str]) -> None:
        with self.opened(url_at(server)) as cache:
            until_available(lambda: cache.put("k", b"v", 60))
            self.token = token_of(cache, "k")

    def calls(self, backend: Cache) -> Calls:
        return {name: lambda call=call: call(backend, self.token) for name, call in cache_failures.METHODS.items()}  # type: ignore[misc]

    def fill(self, backend: Cache) -> None:
        backend.put("k", bytes(10_000), 60)

    @pytest.mark.parametrize("method", ["add", "replace", "remove", "write_many"])
    def test_a_write_whose_reply_was_lost_is_not_taken_for_a_rivals(
        self, behind: Cache, link: Link, method: str
    ) -> None:
        for number, lose in enumerate(each_reply_lost(link)):
            key, token = f"lost-{number}", None
            if method != "add":
                until_available(lambda key=key: behind.put(key, b"before", 60))  # type: ignore[misc]
                token = token_of(behind, key)
            until_available(behind.ping)
            lose()
            with suppress(BackendUnavailable):
                assert act(behind, method, key, b"v", token), "it met its own write"

    @pytest.fixture
    def behind(self, link: Link, url_at: Callable[[str], str]) -> Iterator[Cache]:
        with self.opened(url_at(link.address)) as backend:
            for call in self.calls(backend).values():
                until_available(call)
            self.fill(backend)
            yield backend


class QueueOutages(Outages[Queue]):
    role, large = Queue, "read"

    def calls(self, backend: Queue) -> Calls:
        return {name: lambda call=call: call(backend) for name, call in queue_failures.WHEN_GONE.items()}  # type: ignore[misc]

    def fill(self, backend: Queue) -> None:
        backend.create(["t", "other"])
        while backend.ends(["t"])[Position("t", 0)] == 0:
            backend.publish([Message("t", f"key-{number}", bytes(10_000)) for number in range(20)])

    def test_a_member_that_is_cut_off_learns_it_and_goes_on_where_it_was(self, behind: Queue, link: Link) -> None:
        behind.publish([Message("other", "k", b"%d" % number) for number in range(3)])
        consumer = behind.consumer(["other"], "cut off")
        polled = poll(consumer, 3)
        link.refuse()
        with pytest.raises(BackendUnavailable):
            consumer.commit(ends(polled))
        link.heal()
        consumer.rewind()
        until_available(behind.ping)
        again: list[bytes] = []
        while len(set(again)) < 3:
            again += [each.value for each in until_available(lambda: consumer.poll(10, 1))]
        assert set(again) == {b"0", b"1", b"2"}

    def test_a_message_whose_reply_was_lost_is_there_once_or_not_at_all(self, behind: Queue, link: Link) -> None:
        for number, lose in enumerate(each_reply_lost(link)):
            until_available(behind.ping)
            lose()
            times = {0, 1}
            with suppress(BackendUnavailable):
                behind.publish([Message("other", "k", b"lost %d" % number)])
                times = {1}
            link.heal()
            found = values(until_available(lambda: list(behind.browse("other"))))
            assert found.count(b"lost %d" % number) in times


class StoreOutages(Outages[Store]):
    role, large = Store, "get_many"

    def calls(self, backend: Store) -> Calls:
        return {name: lambda call=call: call(backend) for name, call in store.CALLS.items()}  # type: ignore[misc]

    def test_what_was_saved_without_a_reply_is_saved_again_safely(self, behind: Store, link: Link) -> None:
        [coupon] = some_coupons(1)
        link.lose_replies()
        with pytest.raises(BackendUnavailable):
            behind.save_many([coupon])
        link.heal()
        assert until_available(lambda: behind.save_many([coupon])) <= {coupon.code}
        assert behind.get_many([coupon.code]) == {coupon.code: coupon}

    @pytest.mark.parametrize("method", ["save_many", "save_groups"])
    def test_a_write_whose_reply_was_lost_is_not_taken_for_a_rivals(
        self, behind: Store, link: Link, method: str
    ) -> None:
        for lose in each_reply_lost(link):
            [coupon] = some_coupons(1)
            until_available(behind.ping)
            lose()
            written = [{}, {coupon.code: coupon}]
            with suppress(BackendUnavailable):
                failed = behind.save_many([coupon]) if method == "save_many" else behind.save_groups([[coupon]])
                assert failed == set(), "it met its own write"
                written = written[1:]
            link.heal()
            assert until_available(lambda code=coupon.code: behind.get_many([code])) in written  # type: ignore[misc]

    def test_a_hundred_coupons_are_saved_in_one_round_trip_and_so_is_a_group(self, behind: Store, link: Link) -> None:
        def round_trips(save: Callable[[], set[Any]]) -> int:
            before = link.counts.round_trips
            assert save() == set()
            return link.counts.round_trips - before

        for most, save in (
            (1, lambda: behind.save_many(some_coupons(100))),
            (1, lambda: behind.save_groups([some_coupons(GROUP_MAX)])),
            (8, lambda: behind.save_groups([[coupon] for coupon in some_coupons(8)])),
        ):
            taken = until_available(lambda save=save: round_trips(save))  # type: ignore[misc]
            assert taken <= most, "round trips"

    def fill(self, backend: Store) -> None:
        backend.create()
        backend.save_many([a_full_coupon()._replace(code=store.NOBODY.code)])


class SearchOutages(Outages[Search]):
    role, large = Search, "find"

    def calls(self, backend: Search) -> Calls:
        return {name: lambda call=call: call(backend) for name, call in search.CALLS.items()}  # type: ignore[misc]

    def fill(self, backend: Search) -> None:
        backend.create()
        backend.index_many(OF_ANN)
        search.holds(backend, OF_ANN)
