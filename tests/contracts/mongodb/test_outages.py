"""MongoDB dies, freezes, comes back."""

import socket
import threading
from contextlib import closing

import pytest

from backends.testing.coupons import some_coupons
from backends.testing.search import CALLS, held, holds, opened
from backends.testing.timing import unavailable_within, until_available
from coupon.ports.search import Query

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("rebuilds_end_soon")]


@pytest.fixture
def hasty(services, database):
    """With a second for each request, and an index."""
    with closing(opened(f"mongodb://{services.mongodb}/{database.name}?timeout_s=1")) as search:
        until_available(search.create)
        yield search


def test_killed_and_started_again_the_same_object_goes_on(hasty, services):
    coupons = held(some_coupons(20), "ann")
    hasty.index_many(coupons)
    threads = [threading.Thread(target=hasty.find, args=(Query("ann"), 10)) for _ in range(8)]
    for thread in threads:  # so that there are several connections to be broken
        thread.start()
    for thread in threads:
        thread.join()
    with services.away("mongodb"):
        for method in CALLS:
            unavailable_within(1.9, lambda method=method: CALLS[method](hasty))
    until_available(hasty.ping)
    assert len(hasty.find(Query("ann"), 100)) == 20
    hasty.index_many(held(coupons, "bob", version=3))
    holds(hasty, held(coupons, "bob", version=3))


@pytest.mark.parametrize("method", CALLS)
def test_silent_it_is_unavailable_in_time(services, hasty, method):
    with services.silent("mongodb"):
        unavailable_within(1.9, lambda: CALLS[method](hasty))  # one timeout, not two
    until_available(hasty.ping)


def test_a_ping_takes_a_second_however_long_the_timeout(services, search):
    search.ping()
    with services.silent("mongodb"):
        unavailable_within(1.5, search.ping)


def test_a_network_that_swallows_everything_is_unavailable_in_time():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first, socket.socket() as second:
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        with closing(opened(f"mongodb://127.0.0.1:{full.getsockname()[1]}?timeout_s=1")) as search:
            for method in CALLS:
                unavailable_within(1.9, lambda method=method: CALLS[method](search))  # one timeout, not two
