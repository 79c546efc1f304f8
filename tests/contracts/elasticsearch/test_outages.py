"""Elasticsearch dies and comes back; one of its nodes is away. What it does when it is silent: ``test_outages``."""

import threading
from contextlib import closing

import pytest

from backends.testing.coupons import some_coupons
from backends.testing.search import CALLS, held, holds, opened, settles
from backends.testing.timing import unavailable_within
from coupon.ports.search import Query
from tests.contracts.elasticsearch.asking import can

pytestmark = [
    pytest.mark.services,
    pytest.mark.usefixtures("elasticsearch_refreshes_soon", "rebuilds_begin_soon"),
]


def test_killed_and_started_again_the_same_object_goes_on(search, services):
    coupons = held(some_coupons(20), "ann")
    search.index_many(coupons)
    holds(search, coupons)
    threads = [threading.Thread(target=search.find, args=(Query("ann"), 10)) for _ in range(8)]
    for thread in threads:  # so that there are several connections to be broken
        thread.start()
    for thread in threads:
        thread.join()
    with services.away("elasticsearch"):
        for method in CALLS:
            unavailable_within(2, lambda method=method: CALLS[method](search))
    settles(lambda: can(search.ping), True)
    assert len(search.find(Query("ann"), 100)) == 20
    search.index_many(held(coupons, "bob", version=3))
    holds(search, held(coupons, "bob", version=3))


def test_of_several_nodes_one_that_is_away_is_not_missed(services, index):
    with closing(opened(f"elasticsearch://127.0.0.1:9,{services.elasticsearch}?index={index}&timeout_s=10")) as search:
        coupons = some_coupons(10)
        search.create()
        for coupon in coupons:
            search.index_many([coupon])
            search.find(Query(), 10)
        holds(search, coupons)
