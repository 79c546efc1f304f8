"""The three searches stand what every search has to stand."""

import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch

from backends.search.sqlite import CONDITIONS, FIND
from backends.testing.coupons import after
from backends.testing.search import SearchContract, opened
from backends.testing.search_processes import SearchAcrossProcesses
from backends.testing.search_rebuild import SearchRebuildContract
from coupon.model import Day
from coupon.ports.search import Query, Search
from tests.services import Services

DATA = Path(__file__).parents[1] / "data" / "511aa48"


class TestMemorySearch(SearchContract, SearchRebuildContract):
    @pytest.fixture
    def url(self) -> str:
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


@pytest.mark.parametrize("layout", ["single", "per-command"])
def test_a_file_of_511aa48_gives_the_unused_coupons_of_a_day_and_takes_changes(tmp_path: Path, layout: str) -> None:
    copied = shutil.copy(DATA / layout / "search.db", tmp_path / "search.db")
    search = opened(f"sqlite:///{copied}")
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
    pass


class TestElasticsearchSearchAcrossProcesses(OnElasticsearch, SearchAcrossProcesses):
    search = SearchContract.search


def drop(address: str, index: str) -> None:
    with Elasticsearch(f"http://{address}") as client:
        for name in client.indices.get(index=f"{index}-*", filter_path="*.aliases"):
            client.indices.delete(index=name)
