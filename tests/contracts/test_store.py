"""The three stores stand what every store has to stand."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.store.dynamodb_model import bind
from backends.testing.store import StoreAcrossProcesses, StoreContract, opened
from coupon.ports.store import Store
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


@pytest.mark.services
class TestDynamoStore(StoreContract, StoreAcrossProcesses):
    @pytest.fixture
    def url(self, services: Services) -> Iterator[str]:
        table = f"test-{secrets.token_hex(6)}"
        yield f"dynamodb://{services.dynamodb}?table={table}&timeout_s=10"
        drop(services.dynamodb, table)

    @pytest.fixture
    def gone_url(self) -> str:
        return "dynamodb://127.0.0.1:9?timeout_s=1"


def drop(address: str, table: str) -> None:
    model = bind(
        table, host=f"http://{address}", region="local", aws_access_key_id="local", aws_secret_access_key="local"
    )
    if model.exists():
        model.delete_table()
    model._get_connection().connection.client.close()
