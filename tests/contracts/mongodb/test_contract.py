"""MongoDB's search stands what every search has to stand. FerretDB on SQLite is the server here."""

import pytest

from backends.testing.search import SearchContract
from backends.testing.search_processes import SearchAcrossProcesses
from backends.testing.search_rebuild import SearchRebuildContract

pytestmark = pytest.mark.services


class OnMongo:
    """``url`` and ``search`` are those of ``conftest``."""

    @pytest.fixture
    def url(self, services, database):
        return f"mongodb://{services.mongodb}/{database.name}?timeout_s=60"

    @pytest.fixture
    def gone_url(self):
        return "mongodb://127.0.0.1:9?timeout_s=1"


@pytest.mark.usefixtures("rebuilds_end_soon")
class TestMongoSearch(OnMongo, SearchContract, SearchRebuildContract):
    many = 2_400  # FerretDB reads the whole collection at each look


class TestMongoSearchAcrossProcesses(OnMongo, SearchAcrossProcesses):
    search = SearchContract.search
