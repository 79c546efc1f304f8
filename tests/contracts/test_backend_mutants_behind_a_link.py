"""The suites of outages find what a backend does wrong that has a real server, behind a link that counts and loses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backends.cache.redis import RedisCache
from backends.queue.redis import RedisQueue
from backends.store.dynamodb import DynamoStore
from backends.testing import behind_a_link
from backends.testing.links import Link, Links
from backends.testing.outages import CacheOutages, QueueOutages, StoreOutages
from backends.testing.timing import until_available
from coupon.ports.backend import Backend
from coupon.ports.url import Url
from tests.contracts import backend_mutants as mutants
from tests.contracts.redis.server import MEMORY_ONLY, PrivateRedis
from tests.services import Services

pytestmark = pytest.mark.services
BACKENDS: dict[str, tuple[Any, type[Backend]]] = {
    "cache": (CacheOutages, RedisCache),
    "queue": (QueueOutages, RedisQueue),
    "store": (StoreOutages, DynamoStore),
}


@pytest.fixture
def role(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def server(role: str, services: Services, tmp_path: Path) -> Iterator[str]:
    if role == "store":
        yield services.dynamodb
        return
    assert services.redis, "skips, or fails in CI, where there is none to run"
    redis = PrivateRedis(tmp_path)
    redis.start(*MEMORY_ONLY)
    yield f"127.0.0.1:{redis.port}"
    redis.kill()


@pytest.fixture
def url_at(role: str, request: pytest.FixtureRequest) -> Callable[[str], str]:
    if role == "store":
        table = request.getfixturevalue("dynamodb_table")
        return lambda address: f"dynamodb://{address}?table={table}&timeout_s=1"
    return lambda address: f"redis://{address}?timeout_s=1"


@contextmanager
def behind(mutant: Any, suite: Any, server: str, url_at: Callable[[str], str]) -> Iterator[tuple[Any, Link]]:
    """The mutant at the end of a link to its server, filled as the suite fills it."""
    with Links() as links:
        link = links.open("mutant", int(server.partition(":")[2]))
        backend = mutant.from_url(Url(url_at(link.address)))
        until_available(lambda: suite.fill(backend))
        yield backend, link
        mutants.really_close(backend)


@pytest.mark.parametrize(
    ("role", "method"),
    [
        *(("cache", method) for method in ("add", "replace", "remove", "write_many")),
        *(("store", method) for method in ("save_many", "save_groups")),
    ],
    indirect=["role"],
)
def test_a_backend_that_sends_a_write_again_is_found(
    role: str, method: str, server: str, url_at: Callable[[str], str]
) -> None:
    suite, backend = BACKENDS[role]
    again = mutants.SavingWithoutToken if role == "store" else mutants.sending_again(backend, method)
    with (
        behind(again, suite(), server, url_at) as (mutant, link),
        pytest.raises(AssertionError, match="its own write"),
    ):
        suite().test_a_write_whose_reply_was_lost_is_not_taken_for_a_rivals(mutant, link, method)


@pytest.mark.parametrize("role", ["queue"], indirect=True)
def test_a_queue_that_sends_a_message_again_is_found(role: str, server: str, url_at: Callable[[str], str]) -> None:
    suite, backend = BACKENDS[role]
    with (
        behind(mutants.sending_again(backend, "publish"), suite(), server, url_at) as (mutant, link),
        pytest.raises(AssertionError, match="assert 2 in"),
    ):
        suite().test_a_message_whose_reply_was_lost_is_there_once_or_not_at_all(mutant, link)


@pytest.mark.parametrize("role", BACKENDS, indirect=True)
def test_a_backend_whose_close_closes_nothing_is_found(
    role: str, server: str, url_at: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, backend = BACKENDS[role]
    monkeypatch.setattr(behind_a_link, "CLOSED_WITHIN_S", 0.5)
    with (
        behind(mutants.closing_nothing(backend), suite(), server, url_at) as (mutant, link),
        pytest.raises(AssertionError, match="connections are closed"),
    ):
        suite().test_a_backend_that_was_closed_leaves_no_connection_open(mutant, link, url_at)


@pytest.mark.parametrize("method", ["save_many", "save_groups"])
@pytest.mark.parametrize("role", ["store"], indirect=True)
def test_a_store_that_asks_first_whether_its_server_lives_is_found(
    role: str, method: str, server: str, url_at: Callable[[str], str]
) -> None:
    suite, backend = BACKENDS[role]
    with (
        behind(mutants.asking_first(backend, method), suite(), server, url_at) as (mutant, link),
        pytest.raises(AssertionError, match="round trip"),
    ):
        suite().test_a_hundred_coupons_are_saved_in_one_round_trip_and_so_is_a_group(mutant, link)
