"""The suites that strangers run find what a backend may do wrong: each fault is a failed test."""

import time
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
from backends.testing import behind_a_link
from backends.testing.asking import LATE
from backends.testing.cache import CacheContract
from backends.testing.outages import CacheOutages, QueueOutages, SearchOutages, StoreOutages
from backends.testing.queue import QueueContract
from backends.testing.queue_driving import opened
from backends.testing.queue_processes import QueueAcrossProcesses
from backends.testing.search import SearchContract, settles
from backends.testing.store import StoreContract
from backends.testing.store_processes import StoreAcrossProcesses
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
        for suites in (behind_a_link, backends_of_all_roles):
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
        expected = f"{LATE}: no end after 0.70 s"
        monkeypatch.setattr(behind_a_link, "TRIES", 1)
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


@pytest.mark.parametrize("scheme", ON_SERVERS)
def test_a_backend_that_waits_indefinitely_when_it_is_opened_is_found_in_time(
    opens: Callable[[type[Backend]], None], monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    suite, backend = ON_SERVERS[scheme]
    opens(mutants.waiting_in_from_url(backend))
    monkeypatch.setattr(behind_a_link, "OPENED_WITHIN_S", 0.5)
    began = time.monotonic()
    with pytest.raises(AssertionError, match=LATE):
        suite().test_opening_connects_to_nobody(lambda address: f"{scheme}://{address}?timeout_s=0.3")
    assert time.monotonic() - began < 5


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


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, type[Backend]], str]:
    """Makes the class a plugin, also for processes that a test starts. Returns the URL of a file for it."""

    def installed(role: str, mutant: type[Backend]) -> str:
        info = tmp_path / "site" / "mutant-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mutant\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[coupon.{role}]\nmutant = {mutant.__module__}:{mutant.__qualname__}\n")
        monkeypatch.syspath_prepend(tmp_path / "site")
        return f"mutant:///{tmp_path}/mutant.db"

    return installed


def test_a_store_whose_tables_two_processes_make_at_once_is_found(installed: Any) -> None:
    url = installed("store", mutants.TwoStepTables)
    with pytest.raises(AssertionError, match="already exists"):
        StoreAcrossProcesses().test_of_processes_that_make_the_tables_at_once_none_fails(url)


def test_a_queue_whose_topics_two_processes_make_at_once_is_found(installed: Any) -> None:
    url = installed("queue", mutants.TwoStepTopics)
    with closing(opened(url)) as queue:
        queue.create(["t"])
        with pytest.raises(AssertionError, match="UNIQUE constraint failed"):
            QueueAcrossProcesses().test_of_processes_that_make_a_topic_at_once_none_fails(queue, url)


def test_what_goes_wrong_in_a_thread_of_a_race_is_told(tmp_path: Path) -> None:
    with closing(mutants.DeadlockingGroups(str(tmp_path / "store.db"))) as store:
        store.create()
        with pytest.raises(AssertionError, match=r"the first one with .*a deadlock was detected"):
            StoreRecordsContract().test_of_many_threads_one_wins_each_round_of_a_group(store)


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
