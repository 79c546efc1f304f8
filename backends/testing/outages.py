"""A server that is silent, slow or cut off: for backends with a server of their own. One class a role:

    class TestMyStoreInOutages(StoreOutages):
        @pytest.fixture
        def server(self) -> str: ...                    # host:port of the real server

        @pytest.fixture
        def url_at(self) -> Callable[[str], str]: ...   # of a host:port, the URL of a fresh backend there

The URL has ``timeout_s`` of a second or less, and names the same fresh namespace for every address of a test.
All methods are asked at once, each by a thread of its own: a test takes as long as the slowest of them.
"""

import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from backends.testing import cache_failures, queue_failures, search, store
from backends.testing.asking import ANSWERED, LATE, REJECTED, UNAVAILABLE, Calls, at_once
from backends.testing.broken_servers import nonsense_server, silent_server, unreachable_server
from backends.testing.cache_rivals import token_of
from backends.testing.coupons import a_full_coupon, some_coupons
from backends.testing.links import Link, Links
from backends.testing.queue_driving import ends, poll
from backends.testing.timing import TRIES, until_available
from coupon.domain.errors import BackendUnavailable
from coupon.ports.backend import Backend
from coupon.ports.cache import Cache
from coupon.ports.queue import Message, Position, Queue
from coupon.ports.search import Search
from coupon.ports.store import Store
from coupon.ports.url import Url
from coupon.runtime.wiring import open_backend

AnyBackend = TypeVar("AnyBackend", bound=Backend)
SEVERAL_REQUESTS = {"create", "rebuild"}
"""The methods that may take several requests, of which each has a timeout for itself."""
PING_MAX_S = 2.0
"""About a second."""
OF_ANN = search.held(some_coupons(50), "ann")
TRICKLES = "says 64 bytes at a time, 50 times a second"
"""A timeout for each wait would never be over."""
Fault = tuple[Callable[[Link], None], Collection[str], Collection[str]]
FAULTS: dict[str, Fault] = {
    TRICKLES: (lambda link: link.slice(64, 20), [UNAVAILABLE, ANSWERED], SEVERAL_REQUESTS),
    "falls silent": (Link.black_hole, [UNAVAILABLE], []),
    "is cut off": (Link.refuse, [UNAVAILABLE], []),
    "breaks its connections": (Link.reset, [UNAVAILABLE, ANSWERED], []),
    "does what it is asked, and its reply is lost": (Link.lose_replies, [UNAVAILABLE], []),
}
"""How it begins, how a call may end then, and which methods are left out. Trickling comes first, while what was filled
in is still there."""


class Outages(Generic[AnyBackend]):
    """What the suites of the four roles share."""

    role: ClassVar[type[Backend]]
    large: ClassVar[str]
    """The call whose answer has some kilobytes."""
    little_s: ClassVar[float] = 0.25
    """What a call may take beyond one and a half of its timeouts: one is allowed, and not two."""

    @pytest.fixture
    def server(self) -> str:
        raise NotImplementedError("host:port of the real server")

    @pytest.fixture
    def url_at(self) -> Callable[[str], str]:
        raise NotImplementedError("the URL of a backend whose server is at a host:port, with a timeout_s")

    @pytest.fixture
    def links(self) -> Iterator[Links]:
        with Links() as links:
            yield links

    @pytest.fixture
    def link(self, links: Links, server: str) -> Link:
        host, _, port = server.rpartition(":")
        return links.open(server, int(port), host=host)

    @pytest.fixture
    def behind(self, link: Link, url_at: Callable[[str], str]) -> Iterator[AnyBackend]:
        """The backend at the other end of the link, with something in it; each of its methods was called."""
        with self.opened(url_at(link.address)) as backend:
            until_available(lambda: self.fill(backend))
            for call in self.calls(backend).values():
                until_available(call)
            yield backend

    def calls(self, backend: AnyBackend) -> Calls:
        """A call of each method that asks the server, by name."""
        raise NotImplementedError

    def fill(self, backend: AnyBackend) -> None:
        """Make what the calls need, and what ``large`` reads."""
        raise NotImplementedError

    @contextmanager
    def opened(self, url: str) -> Iterator[AnyBackend]:
        with closing(open_backend(self.role, url)) as backend:
            yield backend  # type: ignore[misc]

    def each(self, backend: AnyBackend, url: str, leave_out: Collection[str] = ()) -> dict[str, str]:
        """What becomes of each call, all asked at once."""
        calls = {name: call for name, call in self.calls(backend).items() if name not in leave_out}
        return asked_again(calls, self.within_s(url))

    def within_s(self, url: str) -> float:
        return float(Url(url).query["timeout_s"]) * 1.5 + self.little_s

    def test_opening_connects_to_nobody(self, url_at: Callable[[str], str]) -> None:
        with silent_server() as (address, connections), self.opened(url_at(address)):
            time.sleep(0.02)  # until it would have been accepted
            assert connections == []

    def test_a_server_that_never_says_anything_costs_a_timeout(self, url_at: Callable[[str], str]) -> None:
        with silent_server() as (address, _), self.opened(url_at(address)) as backend:
            assert self.each(backend, url_at(address)) == dict.fromkeys(self.calls(backend), UNAVAILABLE)

    def test_a_network_that_swallows_everything_costs_a_timeout(self, url_at: Callable[[str], str]) -> None:
        with unreachable_server() as address, self.opened(url_at(address)) as backend:
            assert self.each(backend, url_at(address)) == dict.fromkeys(self.calls(backend), UNAVAILABLE)

    def test_a_ping_takes_about_a_second_at_most_whatever_the_timeout(self, url_at: Callable[[str], str]) -> None:
        with silent_server() as (address, _):
            url = re.sub(r"\btimeout_s=[0-9.]+", "timeout_s=5", url_at(address))
            with self.opened(url) as backend:
                assert asked_again({"ping": backend.ping}, PING_MAX_S) == {"ping": UNAVAILABLE}

    def test_whatever_the_network_does_a_call_ends_in_time_and_works_when_it_is_well_again(
        self, behind: AnyBackend, link: Link, url_at: Callable[[str], str]
    ) -> None:
        for fault, (begin, ends_as, leave_out) in FAULTS.items():
            begin(link)
            found = self.each(behind, url_at(link.address), leave_out)
            wrong = {name: how for name, how in found.items() if how not in ends_as}
            assert wrong == {}, f"the server {fault}"
            if fault == TRICKLES:
                assert found[self.large] == UNAVAILABLE, f"the server {fault}"
            link.heal()
            self.works_again(behind)

    def test_an_answer_that_nobody_can_read_is_no_error_of_the_drivers(self, url_at: Callable[[str], str]) -> None:
        with nonsense_server() as (address, _), self.opened(url_at(address)) as backend:
            found = self.each(backend, url_at(address))
        assert {name: how for name, how in found.items() if how not in (UNAVAILABLE, REJECTED)} == {}

    def works_again(self, backend: AnyBackend) -> None:
        until_available(backend.ping)
        for call in self.calls(backend).values():
            until_available(call)


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


def asked_again(calls: Calls, within_s: float) -> dict[str, str]:
    """As ``at_once``. What is too late is asked again: machines are busy."""
    found = dict.fromkeys(calls, LATE)
    for _ in range(TRIES):
        late = {name: call for name, call in calls.items() if found[name] == LATE}
        found |= at_once(late, within_s)
    return found
