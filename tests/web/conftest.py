"""The application on memory backends, a clock to turn, a worker to step."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from backends.cache.memory import MemoryCache
from coupon.domain.clock import monotonic_ms
from coupon.domain.model import Coupon
from coupon.domain.topics import all_topics
from coupon.ports.queue import Consumer
from coupon.runtime.settings import Settings, load
from coupon.runtime.wiring import Backends, open_backends
from coupon.web import create_app
from coupon.worker.worker import Worker, join

NOON = 1_795_348_800_000
"""2026-11-22T12:00:00Z, in ms."""
TODAY = "2026-11-22"


class TurnableClock:
    """Stands still until it is turned."""

    def __init__(self) -> None:
        self.ms = NOON

    def __call__(self) -> int:
        return self.ms


class Api:
    """What a caller does, in one word each."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client

    def create(self, amount: int = 1, first: str = "2026-11-01", last: str = "2026-11-30", **headers: str) -> Any:
        body = {"amount": amount, "validFrom": first, "expireAt": last}
        return self.client.post("/v1/coupons", json=body, headers=headers)

    def issue(self, code: str, user: str = "ann", **headers: str) -> TestResponse:
        return self.client.put("/v1/coupons/issue", json={"couponCode": code, "userId": user}, headers=headers)

    def use(self, code: str, **headers: str) -> TestResponse:
        return self.client.put("/v1/coupons/use", json={"couponCode": code}, headers=headers)

    def cancel(self, code: str) -> TestResponse:
        return self.client.put("/v1/coupons/cancel", json={"couponCode": code})

    def cancel_use(self, code: str) -> TestResponse:
        return self.client.put("/v1/coupons/cancel-use", json={"couponCode": code})

    def get(self, path: str) -> TestResponse:
        return self.client.get(path)

    def walk(self, path: str, limit: int) -> list[list[Any]]:
        """The items of all pages."""
        pages, query = [], f"?limit={limit}"
        while query:
            page = self.client.get(path + query).json
            pages.append(page["items"])
            query = f"?limit={limit}&cursor={page['next']}" if page["next"] else ""
        return pages


class ForgetfulCache(MemoryCache):
    """It can lose all its entries, as a restarted memcached does."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: set[str] = set()

    def add(self, key: str, value: bytes, ttl_s: int) -> int | None:
        self._keys.add(key)
        return super().add(key, value, ttl_s)

    def put(self, key: str, value: bytes, ttl_s: int) -> None:
        self._keys.add(key)
        super().put(key, value, ttl_s)

    def lose_all(self) -> None:
        self.delete_many(self._keys)


@pytest.fixture
def environ(tmp_path) -> dict[str, str]:
    """The environment that the settings are read from."""
    conf = tmp_path / "empty.env"
    conf.touch()
    return {
        "COUPON_CONF": str(conf),
        "COUPON_CACHE_URL": "memory://",
        "COUPON_QUEUE_URL": "memory://",
        "COUPON_STORE_URL": "memory://",
        "COUPON_SEARCH_URL": "memory://",
        "COUPON_SECRET": "a secret of the tests",
        "COUPON_HEARTBEAT_FILE": str(tmp_path / "heartbeat"),
        "COUPON_LOG_LEVEL": "error",
        "COUPON_GUESSES_PER_MINUTE": "0",
    }


@pytest.fixture
def settings(environ) -> Settings:
    return load(environ)


@pytest.fixture
def backends(settings) -> Iterator[Backends]:
    opened = dataclasses.replace(open_backends(settings), cache=ForgetfulCache())
    opened.queue.create(all_topics(settings.topics))
    opened.store.create()
    opened.search.create()
    yield opened
    opened.close()


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock()


class Timer:
    """Goes on as time does, and can be put ahead."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return monotonic_ms() + self.ahead_ms


@pytest.fixture
def timer() -> Timer:
    return Timer()


@pytest.fixture
def app(settings, backends, clock, timer) -> Flask:
    return create_app(settings, backends, clock, timer)


@pytest.fixture
def api(app) -> Api:
    return Api(app.test_client())


@pytest.fixture
def consumer(settings, backends) -> Consumer:
    """The worker's."""
    return join(backends, settings)


@pytest.fixture
def worker(settings, backends, consumer, clock) -> Worker:
    return Worker(backends, settings, consumer, clock=clock)


@pytest.fixture
def drain(worker) -> Callable[[], None]:
    """Apply all that was accepted."""

    def run() -> None:
        while worker.run_once(poll_s=0.01):
            pass

    return run


@pytest.fixture
def working(worker) -> Iterator[None]:
    """The worker carries everything out by itself, meanwhile."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            worker.run_once(poll_s=0.01)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.fixture
def code(api, drain) -> str:
    """The code of a coupon that is there."""
    code: str = api.create().json["couponCodes"][0]
    drain()
    return code


@pytest.fixture
def put_in_search(backends) -> Callable[[list[Coupon]], None]:
    """Index coupons that no worker has to make first."""

    def put(coupons: list[Coupon]) -> None:
        for first in range(0, len(coupons), 500):
            backends.search.index_many(coupons[first : first + 500])

    return put
