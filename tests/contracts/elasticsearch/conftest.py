"""A search with an index of its own, Elasticsearch past it, and an edge between them."""

import secrets

import pytest
from elasticsearch import Elasticsearch

from backends.testing.search import opened
from tests.contracts.elasticsearch.edge import Edge
from tests.contracts.test_search import drop


@pytest.fixture
def index(services):
    name = f"test-{secrets.token_hex(6)}"
    yield name
    drop(services.elasticsearch, name)


@pytest.fixture
def url(services, index):
    return f"elasticsearch://{services.elasticsearch}?index={index}&timeout_s=10"


@pytest.fixture
def search(url):
    search = opened(url)
    search.create()
    yield search
    search.close()


@pytest.fixture
def raw(services):
    with Elasticsearch(f"http://{services.elasticsearch}") as client:
        yield client


@pytest.fixture
def edge(monkeypatch):
    return Edge(monkeypatch)
