"""The cache in memcached."""

from collections.abc import Iterable, Sequence
from typing import Any, Self

from backends.cache.limits import check_entry, check_key, check_prefix
from backends.cache.memcached_client import NamedWrite, StrictClient, can_pipeline
from backends.cache.memcached_evictions import Evictions
from coupon.domain.errors import BackendUnavailable, ConfigurationError
from coupon.ports.cache import Cache, Cached, Write, Written
from coupon.ports.url import Url

PORT = 11211
PING_S = 1.0
DELETED_AT_ONCE = 500
EVICTIONS_STEPS = 4
"""Steps of a call of ``evicted``: two of another thread's question, and then two of its own."""
AT_ONCE = -1
"""A lifetime: an entry that is stored with it has expired."""


class MemcachedCache(Cache):
    """One connection for each thread and process. ``servers``: ``host:port`` of each; ``timeout_s`` is for each step:
    connect, send, receive.

    Tokens are memcached's own. A restarted memcached counts from 1 again, so a token from before can in theory match an
    entry from after: the cache is a hint.
    """

    def __init__(self, servers: Sequence[str], timeout_s: float = 0.2, prefix: str = "coupon:") -> None:
        check_prefix(prefix)
        self._prefix = prefix
        try:
            client = StrictClient(servers, timeout_s, silent_until={}, pipelines=can_pipeline())
        except ValueError as error:
            raise ConfigurationError(f"not a host and port: {error}") from error
        self._open_client: StrictClient | None = client
        self._evictions = Evictions(self._server_of, self._statistics, EVICTIONS_STEPS * timeout_s)

    @classmethod
    def from_url(cls, url: Url) -> Self:
        if url.user or url.path:
            raise ConfigurationError(f"{url} names a user or a path: memcached has neither")
        servers = [f"{'inet6:' * host.startswith('[')}{host}:{port}" for host, port in url.addresses(PORT)]
        return cls(servers, **url.options(timeout_s=0.2, prefix="coupon:"))

    def ping(self) -> None:
        with self._client() as client:
            for server in client.servers:
                server.ping(PING_S)

    def close(self) -> None:
        # Each thread's connection closes with the client, as soon as no call uses it.
        self._open_client = None

    def get(self, key: str) -> Cached | None:
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, Cached]:
        """In a round trip for each server."""
        names = {self._name(key): key for key in keys}
        with self._client() as client:
            return {names[name]: cached for name, cached in client.get_many(list(names)).items()}

    def add(self, key: str, value: bytes, ttl_s: int) -> Any:
        return self.write_many([Write(key, value, ttl_s)]).tokens[0]

    def replace(self, key: str, value: bytes, token: Any, ttl_s: int) -> Any:
        return self.write_many([Write(key, value, ttl_s, token)]).tokens[0]

    def write_many(self, writes: Sequence[Write], others: Iterable[str] = ()) -> Written:
        """In a round trip for each server, up to a number of writes."""
        named = [self._named(write) for write in writes]
        names = {self._name(key): key for key in others}
        with self._client() as client:
            tokens, found = client.write_many(named, list(names))
        return Written(tokens, {names[name]: cached for name, cached in found.items()})

    def remove(self, key: str, token: Any) -> bool:
        name = self._name(key)
        with self._client() as client:
            # Without an id of its own, python-memcached would send a plain set.
            client.cas_ids[name] = token
            return bool(client.cas(name, b"", AT_ONCE))

    def delete_many(self, keys: Iterable[str]) -> None:
        names = [self._name(key) for key in keys]
        with self._client() as client:
            for first in range(0, len(names), DELETED_AT_ONCE):
                client.delete_multi(names[first : first + DELETED_AT_ONCE])

    def put(self, key: str, value: bytes, ttl_s: int) -> None:
        check_entry(key, value, ttl_s)
        with self._client() as client:
            if not client.set(self._name(key), value, ttl_s):
                raise BackendUnavailable(f"memcached did not store {key!r}")

    def place(self, key: str) -> str:
        return self._server_of(self._name(key))

    def evicted(self, key: str) -> int | None:
        return self._evictions.count(self._name(key))

    def _server_of(self, name: bytes) -> str:
        return self._client().server_of(name).place

    def _statistics(self, name: bytes) -> dict[str, str]:
        with self._client() as client:
            return client.statistics(name)

    def _named(self, write: Write) -> NamedWrite:
        key, value, ttl_s, token = write
        check_entry(key, value, ttl_s)
        return NamedWrite(self._name(key), value, ttl_s, token)

    def _name(self, key: str) -> bytes:
        check_key(key)
        return f"{self._prefix}{key}".encode()

    def _client(self) -> StrictClient:
        client = self._open_client
        if client is None:
            raise BackendUnavailable("memcached: the cache was closed")
        return client
