"""What several contract tests share."""

import logging
import secrets
from collections.abc import Iterator
from contextlib import suppress

import pytest
from elasticsearch import Elasticsearch

from backends.search import elasticsearch, mongodb_generations
from backends.store.dynamodb_model import bind
from backends.store.dynamodb_records import SUFFIX
from backends.testing.store import opened
from backends.testing.timing import Clock
from coupon.ports.store import Store
from tests.contracts.dynamodb_edge import Edge, edge_of
from tests.services import Services


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dynamodb_table(services: Services) -> Iterator[str]:
    """A name that no table has; what was made under it is deleted."""
    table = f"test-{secrets.token_hex(6)}"
    yield table
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
    model = bind(table, host=f"http://{services.dynamodb}", region="local", **keys)
    client = model._get_connection().connection.client
    for name in (table, table + SUFFIX):
        with suppress(client.exceptions.ResourceNotFoundException):
            client.delete_table(TableName=name)
    client.close()


@pytest.fixture
def edge(services: Services) -> Iterator[Edge]:
    """In front of DynamoDB Local: it keeps the requests, and may spoil their answers."""
    with edge_of(services.dynamodb) as edge:
        yield edge


@pytest.fixture
def store(edge: Edge, dynamodb_table: str) -> Iterator[Store]:
    """DynamoDB's store behind the edge, where a module has no store of its own."""
    store = opened(f"dynamodb://{edge.address}?table={dynamodb_table}&timeout_s=10")
    store.create()
    edge.requests.clear()
    yield store
    store.close()


@pytest.fixture(scope="session")
def elasticsearch_refreshes_soon(services: Services) -> Iterator[None]:
    """Indices of tests (``test-…``) every 50 ms and not every second, which is most of what their tests would wait."""
    name, settings = f"test-{secrets.token_hex(6)}", {"index.refresh_interval": "50ms"}
    with Elasticsearch(f"http://{services.elasticsearch}") as client:
        client.indices.put_index_template(name=name, index_patterns=["test-*"], template={"settings": settings})
        yield
        client.indices.delete_index_template(name=name)


@pytest.fixture
def rebuilds_begin_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of the time that a rebuild gives to other processes to hear of it: for tests in which there are none."""
    monkeypatch.setattr(elasticsearch, "LOOK_S", elasticsearch.LOOK_S / 5)


@pytest.fixture
def rebuilds_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``rebuilds_begin_soon``, on MongoDB."""
    monkeypatch.setattr(mongodb_generations, "LOOK_S", mongodb_generations.LOOK_S / 5)


@pytest.fixture
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A driver's words stay with the driver: callers get exceptions."""
    caplog.set_level(logging.INFO)
    yield
    assert not caplog.records
