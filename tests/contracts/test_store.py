"""The three stores stand what every store has to stand."""

from pathlib import Path

import pytest

from backends.testing.store import StoreContract, opened
from backends.testing.store_processes import StoreAcrossProcesses
from coupon.ports.store import Store
from coupon.ports.url import ConfigurationError
from tests.services import Services


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def url(self) -> str:
        return "memory://"

    @pytest.fixture
    def gone(self) -> Store:
        """It has no server: it is gone when it was closed."""
        store = opened("memory://")
        store.close()
        return store


class TestSqliteStore(StoreContract, StoreAcrossProcesses):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/data/store.db"

    @pytest.fixture
    def gone_url(self) -> str:
        return "sqlite:////dev/null/store.db?timeout_s=1"

    def test_a_wrong_synchronous_is_an_error_of_configuration(self) -> None:
        with pytest.raises(ConfigurationError, match="neither normal nor full"):
            opened("sqlite:///x.db?synchronous=off")


@pytest.mark.services
class TestDynamoStore(StoreContract, StoreAcrossProcesses):
    @pytest.fixture
    def url(self, services: Services, dynamodb_table: str) -> str:
        return f"dynamodb://{services.dynamodb}?table={dynamodb_table}&timeout_s=10"

    @pytest.fixture
    def gone_url(self) -> str:
        return "dynamodb://127.0.0.1:9?timeout_s=1"
