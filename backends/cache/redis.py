"""The cache in Redis (decision 28).

An entry is a string: the token of its write, then the value. Its key names the run of the server that it was written
to. A server that keeps its data loses the last second of it when it dies, and would go on with older entries. So every
start makes an empty cache; what is left of another run expires.
"""

import secrets
from collections.abc import Iterable, Sequence
from typing import Any, Self

from redis.exceptions import ResponseError

from backends.cache.limits import VALUE_MAX, check_entry, check_key, checked_keys
from backends.redis_connections import OPTIONS, Command, RedisConnection, RedisConnections, fields_of
from coupon.domain.errors import BackendUnavailable
from coupon.ports.cache import Cache, Cached, Write, Written
from coupon.ports.url import Url

TOKEN_BYTES = 8
NO_TOKEN = b""
"""Of an entry that is no string."""
ASKED_AT_ONCE, DELETED_AT_ONCE = 32, 500
"""Keys of one round trip: that many of the longest values are within the limit of a response."""
SILENCE_S = 0.5
IS_STILL = """
local head = redis.pcall('GETRANGE', KEYS[1], 0, 7)
if type(head) ~= 'string' then head = '' end
if head ~= ARGV[1] or redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
"""
REPLACE = f"{IS_STILL} redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) return 1"
REMOVE = f"{IS_STILL} return redis.call('DEL', KEYS[1])"


class RedisCache(Cache):
    """``timeout_s`` is for a whole call."""

    def __init__(self, connections: RedisConnections) -> None:
        self._connections = connections

    @classmethod
    def from_url(cls, url: Url) -> Self:
        return cls(RedisConnections(url, **url.options(timeout_s=0.2, **OPTIONS), silence_s=SILENCE_S))

    def ping(self) -> None:
        with self._connections.pinged():
            pass

    def close(self) -> None:
        self._connections.close()

    def get(self, key: str) -> Cached | None:
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, Cached]:
        """In a round trip, up to a number of keys."""
        names = checked_keys(keys)
        with self._connections.connection() as connection:
            return self._get(connection, names)

    def add(self, key: str, value: bytes, ttl_s: int) -> bytes | None:
        token: bytes | None = self.write_many([Write(key, value, ttl_s)]).tokens[0]
        return token

    def replace(self, key: str, value: bytes, token: Any, ttl_s: int) -> bytes | None:
        new: bytes | None = self.write_many([Write(key, value, ttl_s, token)]).tokens[0]
        return new

    def write_many(self, writes: Sequence[Write], others: Iterable[str] = ()) -> Written:
        """In a round trip, up to a number of keys."""
        for write in writes:
            check_entry(write.key, write.value, write.ttl_s)
        asked = checked_keys(others)
        tokens: list[bytes | None] = []
        with self._connections.connection() as connection:
            for first in range(0, len(writes), ASKED_AT_ONCE):
                some = writes[first : first + ASKED_AT_ONCE]
                new = [secrets.token_bytes(TOKEN_BYTES) for _ in some]
                commands = [self._write(connection, *pair) for pair in zip(some, new, strict=True)]
                replies = connection.must(commands)
                tokens += [token if reply else None for token, reply in zip(new, replies, strict=True)]
            return Written(tokens, self._get(connection, asked))

    def remove(self, key: str, token: Any) -> bool:
        check_key(key)
        with self._connections.connection() as connection:
            (removed,) = connection.must([("EVAL", REMOVE, 1, self._name(connection, key), _sent(token))])
        return bool(removed)

    def delete_many(self, keys: Iterable[str]) -> None:
        names = checked_keys(keys)
        with self._connections.connection() as connection:
            for first in range(0, len(names), DELETED_AT_ONCE):
                some = names[first : first + DELETED_AT_ONCE]
                connection.must([("DEL", *(self._name(connection, name) for name in some))])

    def put(self, key: str, value: bytes, ttl_s: int) -> None:
        check_entry(key, value, ttl_s)
        with self._connections.connection() as connection:
            entry = secrets.token_bytes(TOKEN_BYTES) + value
            connection.must([("SET", self._name(connection, key), entry, "EX", ttl_s)])

    def place(self, key: str) -> str:
        check_key(key)
        return self._connections.address

    def evicted(self, key: str) -> int | None:
        check_key(key)
        (stats,) = self._connections.ask([("INFO", "stats")])
        try:
            return int(fields_of(stats)["evicted_keys"])
        except (KeyError, ValueError) as error:
            raise BackendUnavailable(f"Redis does not count its evictions: {error}") from error

    def _get(self, connection: RedisConnection, keys: Sequence[str]) -> dict[str, Cached]:
        found: dict[str, Cached] = {}
        for first in range(0, len(keys), ASKED_AT_ONCE):
            some = keys[first : first + ASKED_AT_ONCE]
            replies = connection.ask([("GET", self._name(connection, key)) for key in some])
            entries = zip(some, map(_cached, replies), strict=True)
            found |= {key: cached for key, cached in entries if cached is not None}
        return found

    def _write(self, connection: RedisConnection, write: Write, token: bytes) -> Command:
        name, entry = self._name(connection, write.key), token + write.value
        if write.token is None:
            return ("SET", name, entry, "NX", "EX", write.ttl_s)
        return ("EVAL", REPLACE, 1, name, _sent(write.token), entry, write.ttl_s)

    def _name(self, connection: RedisConnection, key: str) -> str:
        return f"{self._connections.prefix}{connection.run}:{key}"


def _sent(token: Any) -> bytes:
    """A token of another cache fits no entry."""
    return token if isinstance(token, bytes) else b"none of ours"


def _cached(reply: Any) -> Cached | None:
    if reply is None:
        return None
    if isinstance(reply, ResponseError):
        if str(reply).startswith("WRONGTYPE"):
            return Cached(b"", NO_TOKEN)
        raise reply
    value = reply[TOKEN_BYTES:]
    return Cached(value if len(value) <= VALUE_MAX else b"", reply[:TOKEN_BYTES])
