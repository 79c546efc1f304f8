"""MongoDB's search stands what every search has to stand. FerretDB on SQLite is the server here."""

import secrets
from collections.abc import Iterator

import pytest
from pymongo import MongoClient

from backends.testing.search import SearchContract
from backends.testing.search_processes import SearchAcrossProcesses
from backends.testing.search_rebuild import SearchRebuildContract
from tests.services import Services

pytestmark = pytest.mark.services


class OnMongo:
    @pytest.fixture
    def url(self, services: Services) -> Iterator[str]:
        database = f"test-{secrets.token_hex(6)}"
        yield f"mongodb://{services.mongodb}/{database}?timeout_s=60"
        with MongoClient(f"mongodb://{services.mongodb}") as client:
            client.drop_database(database)

    @pytest.fixture
    def gone_url(self) -> str:
        return "mongodb://127.0.0.1:9?timeout_s=1"


@pytest.mark.usefixtures("rebuilds_end_soon")
class TestMongoSearch(OnMongo, SearchContract, SearchRebuildContract):
    pass


class TestMongoSearchAcrossProcesses(OnMongo, SearchAcrossProcesses):
    search = SearchContract.search
