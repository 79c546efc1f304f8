"""5,000 coupons and their traffic, through the service's own web side and workers: restored from the queue alone."""

import logging
from random import Random

import pytest
import structlog

from coupon.domain.errors import BackendUnavailable, CouponBusy, Refused
from coupon.domain.model import Kind
from coupon.domain.topics import command_topics
from coupon.ports.store import Store
from coupon.runtime.wiring import open_backend
from tests.e2e.deployment import embedded, on_services
from tests.worker.conftest import FIRST, LAST, SHOP, a_world
from tests.worker.restored import coupons_of, differences, restore

COUPONS = 5_000
A_CREATION = 700
KINDS = (Kind.ISSUE, Kind.ISSUE, Kind.ISSUE, Kind.USE, Kind.USE, Kind.CANCEL, Kind.CANCEL_USE)


class Life:
    """Commands one after another, by a seed; workers that come seldom, one for each topic where there are several."""

    def __init__(self, world, seed):
        self.world, self.random = world, Random(seed)
        topics = command_topics(world.settings.topics)
        world.consumers.clear()
        self.workers = [world.a_worker(topic) for topic in topics[1:]] + [world.a_worker(topics[0], "invalidate")]
        self.codes, self.rivals = [], 0

    def lead(self, coupons):
        while len(self.codes) < coupons:
            amount = min(A_CREATION, coupons - len(self.codes))
            address = self.world.service.create(amount, FIRST, LAST, SHOP)
            self.drain()
            fresh = self.world.service.codes(address, 0, amount)
            self.codes += fresh
            for code in fresh:
                for _ in range(self.random.choice((0, 1, 1, 2))):
                    self.change(code)
                self.change(self.random.choice(self.codes))
                if self.random.random() < 0.05:
                    self.work(self.random.choice(self.workers))
        self.drain()

    def change(self, code):
        self.world.now += self.random.randrange(3)
        kind, user = self.random.choice(KINDS), f"user {self.random.randrange(3)}"
        try:
            if self.random.random() < 0.05:
                self.world.rival(kind, code, user if kind is Kind.ISSUE else None)
                self.rivals += 1
            else:
                self.world.change(kind, code, user if kind is Kind.ISSUE else None)
        except (Refused, CouponBusy):
            pass

    def work(self, worker):
        try:
            return worker.run_once(poll_s=0)
        except BackendUnavailable:  # another member has its partitions now
            worker.rewind()
            return 1

    def drain(self):
        for _ in range(1_000):
            for worker in self.workers:
                self.work(worker)
            self.world.now += 1_000
            if self.world.lag() == 0:
                return
        raise AssertionError(f"{self.world.lag()} messages are left")


@pytest.fixture(params=["single", "per-command"])
def layout(request):
    return request.param


@pytest.fixture(autouse=True)
def _logs_as_in_production():
    """Warnings only: printing every line would take as long as all the rest."""
    kept = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.configure(**kept)


@pytest.fixture
def on_files(layout, tmp_path):
    yield from a_world({**embedded(tmp_path), "COUPON_TOPICS": layout, "COUPON_CACHE_URL": "memory://"})


@pytest.fixture
def on_servers(layout, tmp_path, services):
    yield from a_world({**on_services(tmp_path, services), "COUPON_TOPICS": layout, "COUPON_SEARCH_URL": "memory://"})


def becomes_as_it_was(world, coupons, another):
    life = Life(world, seed=1)
    life.lead(coupons)
    before = coupons_of(world.backends.store)
    assert len(before) == coupons
    assert sum(coupon.version > 2 for coupon in before.values()) > coupons / 10
    assert 0 < sum(len(coupon.rejections) for coupon in before.values()) <= life.rivals * 3
    store = open_backend(Store, another)
    store.create()
    try:
        counts = restore(world.backends, world.settings, store)
        assert counts.left == 0
        assert differences(world.backends.store, store) == {}
        again = restore(world.backends, world.settings, store)
        assert (again.applied, again.rejected) == (0, 0)
        assert differences(world.backends.store, store) == {}
    finally:
        store.close()


def test_5_000_coupons_become_as_they_were_on_sqlite(on_files, tmp_path):
    becomes_as_it_was(on_files, COUPONS, f"sqlite:///{tmp_path}/another.db")


@pytest.mark.services
def test_coupons_become_as_they_were_on_kafka_and_dynamodb(on_servers):
    becomes_as_it_was(on_servers, COUPONS // 10, on_servers.settings.store_url + "-another")
