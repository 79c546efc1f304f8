"""The suites that strangers run find what a backend may do wrong: each fault is a failed test."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backends.cache.memcached import MemcachedCache
from backends.cache.sqlite import SqliteCache
from backends.queue.kafka import KafkaQueue
from backends.queue.sqlite import SqliteQueue
from backends.search.elasticsearch import ElasticsearchSearch
from backends.search.sqlite import SqliteSearch
from backends.store.dynamodb import DynamoStore
from backends.store.sqlite import SqliteStore
from backends.testing import backend as backends_of_all_roles
from backends.testing import outages
from backends.testing.cache import CacheContract
from backends.testing.outages import CacheOutages, QueueOutages, SearchOutages, StoreOutages
from backends.testing.queue import QueueContract
from backends.testing.search import SearchContract, settles
from backends.testing.store import StoreContract
from backends.testing.store_records import StoreRecordsContract
from coupon.ports.backend import Backend
from coupon.ports.url import Url
from tests.contracts import backend_mutants as mutants

ON_SERVERS = {
    "memcached": (CacheOutages, MemcachedCache),
    "kafka": (QueueOutages, KafkaQueue),
    "dynamodb": (StoreOutages, DynamoStore),
    "elasticsearch": (SearchOutages, ElasticsearchSearch),
}
IN_FILES = {
    SqliteCache: CacheContract,
    SqliteQueue: QueueContract,
    SqliteStore: StoreContract,
    SqliteSearch: SearchContract,
}


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Backend]], None]:
    """Has the suites open that backend, whatever the scheme."""

    def opens(mutant: type[Backend]) -> None:
        for suites in (outages, backends_of_all_roles):
            monkeypatch.setattr(suites, "open_backend", lambda _, url: mutant.from_url(Url(url)))

    return opens


@pytest.mark.parametrize("scheme", ON_SERVERS)
@pytest.mark.parametrize("fault", [mutants.without_timeouts, mutants.letting_timeouts_through])
def test_a_backend_whose_timeouts_do_not_hold_or_are_the_drivers_is_found(
    opens: Callable[[type[Backend]], None], monkeypatch: pytest.MonkeyPatch, scheme: str, fault: Any
) -> None:
    suite, backend = ON_SERVERS[scheme]
    opens(fault(backend))
    expected = "raised"
    if fault is mutants.without_timeouts:
        expected = outages.LATE
        monkeypatch.setattr(outages, "TRIES", 1)
    with pytest.raises(AssertionError, match=expected):
        suite().test_a_server_that_never_says_anything_costs_a_timeout(
            lambda address: f"{scheme}://{address}?timeout_s=0.3"
        )


@pytest.mark.parametrize("backend", IN_FILES)
@pytest.mark.parametrize("fault", [mutants.connecting_in_from_url, mutants.connecting_in_init])
def test_a_backend_that_does_io_when_it_is_opened_is_found(
    opens: Callable[[type[Backend]], None], tmp_path: Path, backend: Any, fault: Any
) -> None:
    opens(fault(backend))
    request: Any = SimpleNamespace(getfixturevalue=lambda _: f"sqlite:///{tmp_path}/x.db")
    with pytest.raises(AssertionError, match="from_url or __init__"):
        IN_FILES[backend]().test_opening_does_no_io_and_starts_no_thread(request, there=True)


@pytest.mark.parametrize("scheme", ON_SERVERS)
def test_a_backend_that_connects_when_it_is_opened_is_found(
    opens: Callable[[type[Backend]], None], scheme: str
) -> None:
    suite, backend = ON_SERVERS[scheme]
    opens(mutants.connecting_in_from_url(backend))
    with pytest.raises(AssertionError):
        suite().test_opening_connects_to_nobody(lambda address: f"{scheme}://{address}?timeout_s=0.3")


@pytest.mark.parametrize(
    ("mutant", "pair"),
    [(mutants.TwoStepRemove, ("remove", rival)) for rival in ("replace", "put")]
    + [(mutants.TwoStepReplace, ("replace", rival)) for rival in ("replace", "put")],
)
def test_a_cache_that_compares_and_then_writes_is_found(mutant: Any, pair: tuple[str, str]) -> None:
    with pytest.raises(AssertionError):
        CacheContract().test_a_rival_that_comes_in_at_any_moment_is_before_or_after(mutant(), pair)


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> Iterator[Any]:
    queue = request.param(partitions=4)
    queue.create(["t", "other"])
    yield queue
    queue.close()


@pytest.mark.parametrize("queue", [mutants.TwoStepPublish], indirect=True)
def test_a_queue_that_reads_the_end_and_then_appends_is_found(queue: Any) -> None:
    with pytest.raises(AssertionError):
        QueueContract().test_a_publisher_that_comes_in_at_any_moment_takes_no_place_of_another(queue)


@pytest.mark.parametrize("queue", [mutants.TwoStepCommit], indirect=True)
def test_a_queue_that_commits_partition_by_partition_is_found(queue: Any) -> None:
    with pytest.raises(AssertionError):
        QueueContract().test_a_commit_is_refused_as_a_whole(queue)


@pytest.mark.parametrize("second", ["save_many", "save_groups"])
def test_a_store_that_compares_and_then_writes_is_found(tmp_path: Path, second: str) -> None:
    with closing(mutants.TwoStepSave(str(tmp_path / "store.db"))) as store:
        store.create()
        with pytest.raises(AssertionError):
            StoreRecordsContract().test_a_rival_that_comes_in_at_any_moment_is_before_or_after(
                store, "save_many", second
            )


def test_a_search_that_compares_and_then_writes_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settles, "__defaults__", (0.5,))
    with closing(mutants.TwoStepIndex(str(tmp_path / "search.db"))) as search:
        search.create()
        with pytest.raises(AssertionError):
            SearchContract().test_a_rival_that_comes_in_at_any_moment_does_not_bring_an_older_document_back(
                search, 2, 3
            )
