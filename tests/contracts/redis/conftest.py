"""Names of their own on the tests' Redis, and a private Redis to be killed and frozen."""

import secrets
from collections.abc import Iterator

import pytest
import redis

from tests.services import Services


@pytest.fixture
def prefix() -> str:
    return f"test-{secrets.token_hex(6)}:"


@pytest.fixture
def client(services: Services) -> Iterator[redis.Redis]:
    """The driver's own client of the tests' Redis."""
    host, _, port = services.redis.partition(":")
    with redis.Redis(host=host, port=int(port)) as client:
        yield client
