"""What the suites of outages share: a link to the real server, and calls of every method while it is silent or slow."""

import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import ClassVar, Generic, TypeVar

import pytest

from backends.testing.asking import ANSWERED, LATE, REJECTED, UNAVAILABLE, Calls, at_once
from backends.testing.broken_servers import nonsense_server, silent_server, unreachable_server
from backends.testing.links import Link, Links
from backends.testing.timing import TRIES, until, until_available
from coupon.ports.backend import Backend
from coupon.ports.url import Url
from coupon.runtime.wiring import open_backend

AnyBackend = TypeVar("AnyBackend", bound=Backend)
SEVERAL_REQUESTS = {"create", "rebuild"}
"""The methods that may take several requests, of which each has a timeout for itself."""
OPENED_WITHIN_S = CLOSED_WITHIN_S = 10.0
"""The import of a driver takes a second or two."""
REPLIES_MAX = 8
"""The most parts of replies that are lost in turn. A driver that connects has some before that of the write."""
PING_MAX_S = 2.0
"""About a second."""
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
        def open_and_close() -> None:
            with self.opened(url_at(address)):
                time.sleep(0.02)  # until a connection would have been accepted

        with silent_server() as (address, connections):
            assert at_once({"from_url": open_and_close}, OPENED_WITHIN_S) == {"from_url": ANSWERED}
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

    def test_a_backend_that_was_closed_leaves_no_connection_open(
        self, behind: AnyBackend, link: Link, url_at: Callable[[str], str]
    ) -> None:
        self.each(behind, url_at(link.address))  # by several threads
        behind.close()
        until(lambda: link.present == 0, within_s=CLOSED_WITHIN_S, what="all its connections are closed")

    def works_again(self, backend: AnyBackend) -> None:
        until_available(backend.ping)
        for call in self.calls(backend).values():
            until_available(call)


def asked_again(calls: Calls, within_s: float) -> dict[str, str]:
    """As ``at_once``. What is too late is asked again: machines are busy."""
    found = dict.fromkeys(calls, LATE)
    for _ in range(TRIES):
        late = {name: call for name, call in calls.items() if found[name].startswith(LATE)}
        found |= at_once(late, within_s)
    return found


def each_reply_lost(link: Link) -> Iterator[Callable[[], None]]:
    """Again and again a function that makes the link lose one reply: the next one, then the one after that, and so on.

    It ends when nothing of what was done since then had so many replies."""
    for spared in range(REPLIES_MAX):
        lost = link.counts.lost
        yield partial(link.lose_reply, spared)
        link.heal()
        if link.counts.lost == lost:
            assert spared, "no reply came by the link"
            return
