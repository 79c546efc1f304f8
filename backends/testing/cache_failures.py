"""How a cache says no: to what it does not take, when its server is away, and after it was closed."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from backends.testing.backend import BackendContract
from backends.testing.cache_rivals import open_cache, token_of
from backends.testing.timing import unavailable_within
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.ports.cache import Cache, Write

DAY_S = 86_400
GONE_WITHIN_S = 1.5
IMPOSSIBLE_KEYS = ["", "a b", "a\nb", "k\r\nset x 0 0 1\r\n1", "k\x00", "k\x7f", "키", "k" * 201]
IMPOSSIBLE_TTLS = [0, -1, 30 * DAY_S + 1]

METHODS: dict[str, Callable[[Cache, Any], object]] = {
    "ping": lambda cache, _: cache.ping(),
    "get": lambda cache, _: cache.get("k"),
    "add": lambda cache, _: cache.add("k", b"v", 60),
    "get_many": lambda cache, _: cache.get_many(["k", "l"]),
    "write_many": lambda cache, token: cache.write_many([Write("k", b"v", 60, token), Write("l", b"v", 60)], ["m"]),
    "replace": lambda cache, token: cache.replace("k", b"v", token, 60),
    "remove": lambda cache, token: cache.remove("k", token),
    "delete_many": lambda cache, _: cache.delete_many(["k", "l"]),
    "put": lambda cache, _: cache.put("k", b"v", 60),
}
"""Every method that asks the server, by name: called with a cache and a token."""


class CacheFailures(BackendContract):
    """Part of every ``CacheContract``."""

    role = Cache

    @pytest.fixture
    def gone(self, gone_url: str) -> Iterator[Cache]:
        cache = open_cache(gone_url)
        yield cache
        cache.close()

    @pytest.mark.parametrize("key", IMPOSSIBLE_KEYS)
    @pytest.mark.parametrize("method", [name for name in METHODS if name != "ping"])
    def test_an_impossible_key_is_rejected(self, cache: Cache, method: str, key: str) -> None:
        calls: dict[str, Callable[[], object]] = {
            "get": lambda: cache.get(key),
            "add": lambda: cache.add(key, b"v", 60),
            "get_many": lambda: cache.get_many(["k", key]),
            "write_many": lambda: cache.write_many([Write("k", b"v", 60), Write(key, b"v", 60)]),
            "replace": lambda: cache.replace(key, b"v", 1, 60),
            "remove": lambda: cache.remove(key, 1),
            "delete_many": lambda: cache.delete_many([key]),
            "put": lambda: cache.put(key, b"v", 60),
        }
        with pytest.raises(BackendRejected):
            calls[method]()

    @pytest.mark.parametrize("ttl_s", IMPOSSIBLE_TTLS)
    def test_an_impossible_lifetime_is_rejected_and_changes_nothing(self, cache: Cache, ttl_s: int) -> None:
        with pytest.raises(BackendRejected):
            cache.add("k", b"v", ttl_s)
        assert cache.get("k") is None
        cache.put("k", b"v", 60)
        before = cache.get("k")
        assert before is not None
        with pytest.raises(BackendRejected):
            cache.put("k", b"w", ttl_s)
        with pytest.raises(BackendRejected):
            cache.replace("k", b"w", before.token, ttl_s)
        with pytest.raises(BackendRejected):
            cache.write_many([Write("k", b"w", ttl_s, before.token)])
        assert cache.get("k") == before

    def test_a_value_that_is_too_large_is_rejected_and_changes_nothing(self, cache: Cache) -> None:
        large = b"x" * (512 * 1024 + 1)
        cache.put("k", b"v", 60)
        before = cache.get("k")
        assert before is not None
        with pytest.raises(BackendRejected):
            cache.put("k", large, 60)
        with pytest.raises(BackendRejected):
            cache.replace("k", large, before.token, 60)
        with pytest.raises(BackendRejected):
            cache.add("other", large, 60)
        with pytest.raises(BackendRejected):
            cache.write_many([Write("other", large, 60)])
        assert cache.get("k") == before
        assert cache.get("other") is None

    def test_it_answers_a_ping(self, cache: Cache) -> None:
        cache.ping()

    @pytest.mark.parametrize("method", METHODS)
    def test_every_method_says_when_the_server_is_gone(self, cache: Cache, gone: Cache, method: str) -> None:
        cache.put("k", b"v", 60)
        token = token_of(cache, "k")
        for _ in range(3):
            unavailable_within(GONE_WITHIN_S, lambda: METHODS[method](gone, token))

    @pytest.mark.parametrize("method", METHODS)
    def test_every_method_says_that_the_cache_was_closed(self, cache: Cache, method: str) -> None:
        cache.put("k", b"v", 60)
        token = token_of(cache, "k")
        cache.close()
        with pytest.raises(BackendUnavailable):
            METHODS[method](cache, token)

    def test_the_place_of_a_key_is_known_without_its_server(self, gone: Cache) -> None:
        assert gone.place("k") == gone.place("k")

    def test_no_method_is_left_out(self) -> None:
        asking = Cache.__abstractmethods__ | {"get_many", "write_many"}
        assert set(METHODS) == asking - {"from_url", "close", "place", "evicted"}

    def test_closing_never_fails(self, cache: Cache, gone: Cache) -> None:
        cache.ping()
        for _ in range(2):
            cache.close()
            gone.close()

    def test_closing_reaches_the_connections_of_other_threads(self, cache: Cache) -> None:
        asked, closed = threading.Event(), threading.Event()

        def ask() -> None:
            cache.ping()
            asked.set()
            assert closed.wait(30)
            with pytest.raises(BackendUnavailable):
                cache.get("k")

        with ThreadPoolExecutor(1) as threads:
            result = threads.submit(ask)
            assert asked.wait(30)
            cache.close()
            closed.set()
            result.result()
