"""Redis stands what every cache has to stand."""

from collections.abc import Iterator

import pytest
import redis

from backends.testing.cache import CacheContract, CacheThatEvicts
from backends.testing.cache_rivals import CacheAcrossProcesses, open_cache, value_of
from coupon.ports.cache import Cache
from tests.contracts.private_server import free_port
from tests.contracts.redis.server import MEMORY_ONLY, PrivateRedis
from tests.services import Services

pytestmark = pytest.mark.services


class TestRedisCacheThatEvicts(CacheThatEvicts):
    @pytest.fixture
    def small(self, server: PrivateRedis) -> Iterator[Cache]:
        server.start(*MEMORY_ONLY, "--maxmemory", "5mb", "--maxmemory-policy", "allkeys-lru")
        cache = open_cache(f"{server.url}?timeout_s=2")
        yield cache
        cache.close()


class TestRedisCache(CacheAcrossProcesses, CacheContract):
    @pytest.fixture
    def url(self, services: Services, prefix: str) -> str:
        return f"redis://{services.redis}?timeout_s=1&prefix={prefix}"

    @pytest.fixture
    def gone_url(self) -> str:
        return f"redis://127.0.0.1:{free_port()}"

    @pytest.mark.parametrize("planted", ["a list", "half a token", "nothing"])
    def test_what_others_wrote_is_an_empty_value_that_can_be_replaced(
        self, cache: Cache, client: redis.Redis, prefix: str, planted: str
    ) -> None:
        cache.put("k", b"", 60)
        (found,) = client.scan_iter(f"{prefix}*")
        name = found.decode()
        client.delete(name)
        if planted == "a list":
            client.lpush(name, b"v")
        else:
            client.set(name, b"four" if planted == "half a token" else b"")
        cached = cache.get("k")
        assert cached is not None
        assert (cached.value, cached.token is None) == (b"", False)
        assert cache.get_many(["k", "missing"]) == {"k": cached}
        assert cache.replace("k", b"w", cached.token, 60)
        assert value_of(cache, "k") == b"w"
        assert not cache.remove("k", cached.token)
        client.delete(name)
        assert not cache.replace("k", b"x", cached.token, 60)
