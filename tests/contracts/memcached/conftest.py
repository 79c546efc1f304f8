"""A private memcached for each test, a cache in it, and a second thread."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from backends.testing.cache_rivals import open_cache
from tests.contracts.memcached.server import TIMEOUT_S, PrivateMemcached


@pytest.fixture
def start(services):
    """Starts a memcached with the options given; all die with the test."""
    assert services.memcached, "skips, or fails in CI, where there is none to run"
    servers = []

    def started(*options):
        servers.append(PrivateMemcached(*options))
        servers[-1].start()
        return servers[-1]

    yield started
    for server in servers:
        server.kill()


@pytest.fixture
def server(start):
    return start()


@pytest.fixture
def cache(server):
    cache = open_cache(f"{server.url}?timeout_s={TIMEOUT_S}")
    yield cache
    cache.close()


@pytest.fixture
def thread():
    with ThreadPoolExecutor(1) as thread:
        yield thread
