"""A whole service in one process on memory backends, with a clock that stands still until it is moved."""

from dataclasses import dataclass, replace

import pytest

from coupon import settings
from coupon.drain import Worker
from coupon.model import Coupon, Day, Kind
from coupon.operations import CreationAddress
from coupon.service import Caller, CommandService
from coupon.topics import OWED, all_topics, command_topics
from coupon.wiring import Backends, open_backends
from tests.coupons import NOW

SHOP = Caller("shop")
FIRST, LAST = Day("2026-11-01"), Day("2026-11-30")


@dataclass
class World:
    """``worker`` is driven by hand; ``now`` is everybody's clock."""

    settings: settings.Settings
    backends: Backends
    now: int = NOW

    def __post_init__(self) -> None:
        self.service = self.a_service()
        self.worker = self.a_worker()

    def a_service(self) -> CommandService:
        return CommandService(self.backends, self.settings, clock=lambda: self.now)

    def a_worker(self, *topics: str) -> Worker:
        return Worker(self.backends, self.settings, topics, clock=lambda: self.now)

    def but(self, **backends) -> "World":
        """The same world with some backends exchanged."""
        return World(self.settings, replace(self.backends, **backends), self.now)

    def drain(self, worker: Worker | None = None) -> None:
        worker = worker or self.worker
        while worker.run_once(poll_s=0):
            pass

    def coupons(self, amount: int = 1) -> list[str]:
        """New coupons, in the store."""
        address = self.service.create(amount, FIRST, LAST, SHOP)
        assert isinstance(address, CreationAddress)
        self.drain()
        return self.service.codes(address, 0, amount)

    def change(self, kind: Kind, code: str, user_id: str | None = None, key: str | None = None):
        return self.service.change(kind, code, user_id, Caller("shop", key))

    def stored(self, code: str) -> Coupon:
        return self.backends.store.get_many([code])[code]

    def lag(self) -> int:
        return self.backends.queue.lag([*command_topics(self.settings.topics), *OWED], "worker")


@pytest.fixture
def environ(tmp_path):
    return {
        "COUPON_CONF": "conf/test.env",
        "COUPON_HEARTBEAT_FILE": str(tmp_path / "worker.heartbeat"),
        "COUPON_LOG_LEVEL": "error",
    }


@pytest.fixture
def world(environ):
    yield from a_world(environ)


@pytest.fixture
def per_command(environ):
    yield from a_world({**environ, "COUPON_TOPICS": "per-command"})


def a_world(environ):
    loaded = settings.load(environ)
    backends = open_backends(loaded)
    backends.store.create()
    backends.search.create()
    backends.queue.create(all_topics(loaded.topics))
    yield World(loaded, backends)
    backends.close()
