"""A network that lets a few bytes through now and then: an answer that is not whole in time is none."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient

from backends.testing import search as searches
from backends.testing import store as stores
from backends.testing.coupons import a_full_coupon
from backends.testing.timing import unavailable_within
from coupon.domain.errors import BackendUnavailable
from coupon.ports.cache import Cache
from coupon.ports.search import Query
from coupon.runtime.wiring import open_backend
from tests.contracts.test_search import drop
from tests.proof.chaos.links import Link, Links
from tests.services import Services

pytestmark = pytest.mark.services


@pytest.fixture
def links() -> Iterator[Links]:
    with Links() as links:
        yield links


def link_to(links: Links, address: str) -> Link:
    return links.open(address, int(address.rpartition(":")[2]))


def takes_no_longer_than(seconds: float, link: Link, call: Callable[[], Any]) -> None:
    works_in_the_end(call)
    link.slice(64, 20)
    unavailable_within(seconds, call)
    link.heal()
    works_in_the_end(call)


def works_in_the_end(call: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            call()
            return
        except BackendUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_store(services: Services, dynamodb_table: str, links: Links) -> None:
    link = link_to(links, services.dynamodb)
    coupon = a_full_coupon()
    with closing(stores.opened(f"dynamodb://{services.dynamodb}?table={dynamodb_table}&timeout_s=10")) as store:
        store.create()
        store.save_many([coupon])
    with closing(stores.opened(f"dynamodb://127.0.0.1:{link.port}?table={dynamodb_table}&timeout_s=1")) as store:
        takes_no_longer_than(1.5, link, lambda: store.get_many([coupon.code]))


def test_the_search(services: Services, links: Links) -> None:
    link = link_to(links, services.elasticsearch)
    index = f"test-{uuid4().hex[:12]}"
    coupons = searches.held(searches.some_coupons(50), "ann")
    with closing(searches.opened(f"elasticsearch://{services.elasticsearch}?index={index}&timeout_s=10")) as search:
        search.create()
        search.index_many(coupons)
        searches.holds(search, coupons)
    with closing(searches.opened(f"elasticsearch://127.0.0.1:{link.port}?index={index}&timeout_s=1")) as search:
        takes_no_longer_than(1.5, link, lambda: search.find(Query(user_id="ann"), 50))
    drop(services.elasticsearch, index)


def test_the_search_in_mongodb(services: Services, links: Links) -> None:
    link = link_to(links, services.mongodb)
    database = f"test-{uuid4().hex[:12]}"
    coupons = searches.held(searches.some_coupons(50), "ann")
    with closing(searches.opened(f"mongodb://{services.mongodb}/{database}?timeout_s=10")) as search:
        search.create()
        search.index_many(coupons)
    with closing(searches.opened(f"mongodb://127.0.0.1:{link.port}/{database}?timeout_s=1")) as search:
        takes_no_longer_than(1.5, link, lambda: search.find(Query(user_id="ann"), 50))
    with MongoClient(f"mongodb://{services.mongodb}") as client:
        client.drop_database(database)


def test_the_cache(services: Services, links: Links) -> None:
    link = link_to(links, services.memcached)
    cache: Cache = open_backend(Cache, f"memcached://127.0.0.1:{link.port}?prefix={uuid4().hex}:&timeout_s=0.2")  # type: ignore[type-abstract]
    with closing(cache):
        cache.put("key", bytes(10_000), 60)
        takes_no_longer_than(0.4, link, lambda: cache.get("key"))
