"""A whole service in one process on memory backends, with a clock that stands still until it is moved."""

from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from coupon.acceptance.operations import ChangeRef, CreationRef
from coupon.acceptance.requests import Caller, change_request, command_of
from coupon.acceptance.service import CommandService
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import Coupon, Day, Kind
from coupon.domain.topics import OUTBOX, all_topics, command_topics, work_topics
from coupon.ports.group_commit import ForkedGroupCommit, MakeGroup
from coupon.ports.queue import Consumer
from coupon.ports.search import Query
from coupon.runtime import settings
from coupon.runtime.cache_entries import Claim, Entries, cache_key
from coupon.runtime.wiring import Backends, open_backends
from coupon.runtime.worker_registry import Sign, living
from coupon.worker.worker import Worker, join
from tests.coupons import NOW
from tests.worker.faults import WatchedConsumer

SHOP = Caller("shop")
FIRST, LAST = Day("2026-11-01"), Day("2026-11-30")
CHAIN = [(Kind.ISSUE, "ann"), (Kind.USE, None), (Kind.CANCEL_USE, None), (Kind.CANCEL, None), (Kind.ISSUE, "bob")]


@dataclass
class World:
    """``worker`` is driven by hand, also by a service that waits for it. ``now`` is everybody's clock, and the worker's
    wall clock is off by ``skew``. ``consumers`` has the consumer of each worker."""

    settings: settings.Settings
    backends: Backends
    now: int = NOW
    waited_ms: int = 0
    consumers: dict[Worker, WatchedConsumer] = field(default_factory=dict)
    skew: int = 0

    def __post_init__(self) -> None:
        self.service = self.a_service()
        self.worker = self.a_worker()

    def a_service(self, make_group: MakeGroup = ForkedGroupCommit) -> CommandService:
        return CommandService(
            self.backends,
            self.settings,
            clock=lambda: self.now,
            sleep=self._wait,
            timer=lambda: self.waited_ms,
            make_group=make_group,
        )

    def _wait(self, seconds: float) -> None:
        self.waited_ms += max(1, round(seconds * 1000))
        for worker in list(self.consumers):
            try:
                worker.run_once(poll_s=0)
            except BackendUnavailable:  # its consumer was closed, or another member has its partitions now
                worker.rewind()

    def a_worker(self, *topics: str, **changes: int) -> Worker:
        """With settings of its own, if need be."""
        settings = replace(self.settings, **changes)
        consumer = WatchedConsumer(join(self.backends, settings, topics), topics)
        worker = Worker(
            self.backends,
            settings,
            cast(Consumer, consumer),
            topics,
            clock=lambda: self.now + self.skew,
            timer=lambda: self.now + self.waited_ms,
        )
        self.consumers[worker] = consumer
        return worker

    @property
    def consumer(self) -> WatchedConsumer:
        return self.consumers[self.worker]

    def leave(self, worker: Worker | None = None) -> None:
        """The worker dies: others get its partitions."""
        self.consumers[worker or self.worker].close()

    def sign(self, *topics: str) -> Sign:
        """What the newest worker with these topics tells of itself."""
        of_topics = list(topics) or work_topics(self.settings.topics)
        signs = sorted(
            living(self.backends.cache, self.service.code_deriver).items(), key=lambda it: int(it[0].split(":")[-1])
        )
        return [sign for _, sign in signs if sign.topics == of_topics][-1]

    def but(self, **backends) -> "World":
        """The same world with some backends exchanged."""
        return World(self.settings, replace(self.backends, **backends), self.now, consumers=self.consumers)

    def drain(self, worker: Worker | None = None) -> None:
        worker = worker or self.worker
        while worker.run_once(poll_s=0):
            pass

    def look(self, *workers: Worker, after_ms: int = 1_000) -> None:
        """A step of each, when it is time to ask the store once more about all that waits."""
        self.now += after_ms
        for worker in workers:
            worker.run_once(poll_s=0)

    def coupons(self, amount: int = 1) -> list[str]:
        """New coupons, in the store."""
        address = self.service.create(amount, FIRST, LAST, SHOP)
        assert isinstance(address, CreationRef)
        self.drain()
        return self.service.codes(address, 0, amount)

    def change(self, kind: Kind, code: str, user_id: str | None = None, key: str | None = None):
        return self.service.change(kind, code, user_id, Caller("shop", key))

    def rival(self, kind: Kind, code: str, user_id: str | None = None, key: str | None = None, **changes):
        """A command that was accepted on the coupon as the store has it, and whose reservation was lost since."""
        wish = change_request(kind, code, user_id, Caller("shop", key), self.service.code_deriver)
        zone = self.settings.timezone
        command = command_of(wish, self.stored(code), self.now, zone, fresh=True, reserved=True)._replace(**changes)
        self.service.publish(command)
        return ChangeRef(wish.operation, command.number, code)

    def contested(self) -> str:
        """A coupon that ann has been issued, but for the cache, which has bob's command: that will lose."""
        (code,) = self.coupons()
        self.change(Kind.ISSUE, code, "ann")
        self.backends.cache.delete_many([cache_key(code)])
        self.change(Kind.ISSUE, code, "bob")
        return code

    def is_claimed(self, code: str) -> bool:
        """Whether the cache has nothing of the coupon but a claim."""
        cached = self.backends.cache.get(cache_key(code))
        return cached is not None and isinstance(Entries(self.service.code_deriver).decode(code, cached.value), Claim)

    def stored(self, code: str) -> Coupon:
        return self.backends.store.get_many([code])[code]

    def documents(self, user_id: str) -> list[str]:
        """The codes of the user's coupons, as search has them."""
        return [document["couponCode"] for document in self.backends.search.find(Query(user_id=user_id), 100)]

    def waiting(self) -> list[bytes]:
        """The messages of all commands in the queue, applied or not."""
        return [d.value for topic in command_topics(self.settings.topics) for d in self.backends.queue.browse(topic)]

    def lag(self) -> int:
        return self.backends.queue.lag([*command_topics(self.settings.topics), *OUTBOX], "worker")


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
