"""The three searches stand what every search has to stand."""

import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from elasticsearch import Elasticsearch

from backends.search.sqlite import CONDITIONS, FIND
from backends.testing.coupons import after, some_coupons
from backends.testing.search import SearchContract, held, opened
from backends.testing.search_processes import SearchAcrossProcesses
from backends.testing.search_rebuild import SearchRebuildContract
from coupon.acceptance.queries import Queries
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import Day
from coupon.ports.search import Query, Search
from tests.services import Services

DATA = Path(__file__).parents[1] / "data" / "511aa48"


class TestMemorySearch(SearchContract, SearchRebuildContract):
    @pytest.fixture
    def url(self) -> str:
        return "memory://"

    @pytest.fixture
    def gone_url(self) -> str:
        return "memory://"

    @pytest.fixture
    def gone(self) -> Search:
        """It has no server: it is gone when it was closed."""
        search = opened("memory://")
        search.close()
        return search


class TestSqliteSearch(SearchContract, SearchRebuildContract, SearchAcrossProcesses):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/data/search.db"

    @pytest.fixture
    def gone_url(self) -> str:
        return "sqlite:////dev/null/search.db?timeout_s=1"

    @pytest.mark.parametrize("conditions", CONDITIONS.values())
    def test_a_page_is_read_in_order_from_an_index_however_long_the_list(self, tmp_path, search, conditions) -> None:
        values = {"user_id": "ann", "unused_until": "2026-11-30", "after": "A", "limit": 10}
        with closing(sqlite3.connect(tmp_path / "data" / "search.db")) as connection:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {FIND.format(conditions=conditions)}", values).fetchall()
        days = "INDEX days_" if conditions else "INDEX sqlite_autoindex_documents_1"
        index = "COVERING INDEX holders_" if "userId" in conditions else days
        assert len(plan) == 1  # no sorting after it
        assert plan[0][3].startswith(f"SEARCH documents USING {index}")
        assert "couponCode>?" in plan[0][3]

    def test_a_count_that_takes_too_long_is_broken_off(self, url, search) -> None:
        coupons = some_coupons(30_000)
        for first in range(0, len(coupons), 10_000):
            search.index_many(coupons[first : first + 10_000])
        assert search.count().free == 30_000
        with closing(opened(f"{url}?timeout_s=0.001")) as impatient:
            with pytest.raises(BackendUnavailable):
                impatient.count()
            assert len(impatient.find(Query(), 10)) == 10  # the connection is as good as before

    @pytest.mark.parametrize("spoil", ["createdAt = 'once upon a time, long ago'", "userId = CAST(x'FF' AS TEXT)"])
    def test_a_row_that_is_no_document_spoils_no_list(self, tmp_path, search, spoil) -> None:
        coupons = held(some_coupons(3), "ann")
        search.index_many(coupons)
        with closing(sqlite3.connect(tmp_path / "data" / "search.db")) as connection:
            connection.execute(f"UPDATE documents SET {spoil} WHERE couponCode = ?", (coupons[0].code,))
            connection.commit()
        assert held_codes(search) == sorted(coupon.code for coupon in coupons[1:])


@pytest.mark.parametrize("layout", ["single", "per-command"])
def test_a_file_of_511aa48_gives_the_unused_coupons_of_a_day_and_takes_changes(tmp_path: Path, layout: str) -> None:
    copied = shutil.copy(DATA / layout / "search.db", tmp_path / "search.db")
    search = opened(f"sqlite:///{copied}")
    search.create()
    documents = search.find(Query(), 100)
    [used] = [doc for doc in documents if doc["used"]]
    last_day = Query(unused_until=Day(used["expireAt"]))
    left = [doc for doc in documents if not doc["used"]]
    assert search.find(last_day, 100) == left
    assert search.find(last_day, 3, left[1]["couponCode"]) == left[2:5]
    born = after("used", code=left[0]["couponCode"])
    search.index_many([born._replace(version=1_000, expire_at=Day(used["expireAt"]))])
    assert search.find(last_day, 100) == left[1:]
    search.close()


@pytest.mark.services
@pytest.mark.usefixtures("elasticsearch_refreshes_soon")
class OnElasticsearch:
    @pytest.fixture
    def url(self, services: Services) -> Iterator[str]:
        index = f"test-{secrets.token_hex(6)}"
        yield f"elasticsearch://{services.elasticsearch}?index={index}&timeout_s=10"
        drop(services.elasticsearch, index)

    @pytest.fixture
    def gone_url(self) -> str:
        return "elasticsearch://127.0.0.1:9?timeout_s=1"


@pytest.mark.usefixtures("rebuilds_begin_soon")
class TestElasticsearchSearch(OnElasticsearch, SearchContract, SearchRebuildContract):
    def test_what_others_wrote_into_the_index_spoils_no_list(self, services, url, search) -> None:
        coupons = held(some_coupons(3), "ann")
        search.index_many(coupons)
        forged = (
            {"userId": "ann", "version": 1},
            {"userId": "ann", "couponCode": ["A" * 19, "Z" * 19]},
            {"userId": "ann", "couponCode": 5},
        )
        with Elasticsearch(f"http://{services.elasticsearch}") as client:
            for place, source in enumerate(forged):
                client.index(index=url.partition("index=")[2].partition("&")[0], id=f"forged-{place}", document=source)
        deadline = time.monotonic() + 10
        while len(search.find(Query(user_id="ann"), 100)) < 6 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert held_codes(search) == sorted(coupon.code for coupon in coupons)


class TestElasticsearchSearchAcrossProcesses(OnElasticsearch, SearchAcrossProcesses):
    search = SearchContract.search


def held_codes(search: Search) -> list[str]:
    """The codes of the list, two a page."""
    queries, found, cursor = Queries(search, None, CodeDeriver("a secret"), ZoneInfo("UTC")), [], None
    while True:
        page = queries.held_by("ann", 2, cursor)
        found += [item["couponCode"] for item in page.items]
        if (cursor := page.next) is None:
            return found


def drop(address: str, index: str) -> None:
    with Elasticsearch(f"http://{address}") as client:
        for name in client.indices.get(index=f"{index}-*", filter_path="*.aliases"):
            client.indices.delete(index=name)
