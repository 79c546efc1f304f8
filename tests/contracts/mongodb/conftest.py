"""A search with a database of its own, and MongoDB past it."""

import secrets

import pytest
from pymongo import MongoClient

from backends.testing.search import opened


@pytest.fixture
def raw(services):
    with MongoClient(f"mongodb://{services.mongodb}") as client:
        yield client


@pytest.fixture
def database(raw):
    name = f"test-{secrets.token_hex(6)}"
    yield raw[name]
    raw.drop_database(name)


@pytest.fixture
def url(services, database):
    return f"mongodb://{services.mongodb}/{database.name}?timeout_s=60"


@pytest.fixture
def search(url):
    search = opened(url)
    search.create()
    yield search
    search.close()
