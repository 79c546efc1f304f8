"""The cache entry of a coupon, and its encoding. It is sealed, so that an entry that others write is not believed.

| entry       | meaning                                                                         |
| ----------- | ------------------------------------------------------------------------------- |
| Confirmed   | the coupon after everything that was accepted                                   |
| Provisional | the same after a command that the queue has not acknowledged yet                |
| Claim       | the store is believed once the workers have committed up to the fence; a claim  |
|             | without a fence gets one from its next reader: the end of the queue then        |
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from coupon.domain.codes import SEAL_LENGTH, CodeDeriver
from coupon.domain.errors import BackendError, CacheAway, Malformed
from coupon.domain.model import Coupon
from coupon.domain.serialization import Fence, decode_coupon, decode_fence, dump, encode_coupon
from coupon.ports.cache import Cache, Cached, Write, Written

Answer = TypeVar("Answer")


class Confirmed(NamedTuple):
    coupon: Coupon


class Provisional(NamedTuple):
    coupon: Coupon


class Claim(NamedTuple):
    fence: Fence | None


CacheEntry = Confirmed | Provisional | Claim
UNFENCED = Claim(None)


class CacheOrAway:
    """A cache whose failures are raised as CacheAway, to tell them from those of other backends."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.place = cache.place

    def get(self, key: str) -> Cached | None:
        return self._ask(self._cache.get, key)

    def add(self, key: str, value: bytes, ttl_s: int) -> Any:
        return self._ask(self._cache.add, key, value, ttl_s)

    def get_many(self, keys: Iterable[str]) -> dict[str, Cached]:
        return self._ask(self._cache.get_many, keys)

    def write_many(self, writes: Sequence[Write], others: Iterable[str] = ()) -> Written:
        return self._ask(self._cache.write_many, writes, others)

    def replace(self, key: str, value: bytes, token: Any, ttl_s: int) -> Any:
        return self._ask(self._cache.replace, key, value, token, ttl_s)

    def remove(self, key: str, token: Any) -> bool:
        return self._ask(self._cache.remove, key, token)

    def evicted(self, key: str) -> int | None:
        return self._ask(self._cache.evicted, key)

    def _ask(self, method: Callable[..., Answer], *arguments: Any) -> Answer:
        try:
            return method(*arguments)
        except BackendError as error:
            raise CacheAway(str(error)) from error


def cache_key(code: str) -> str:
    return f"coupon:{code}"


class Entries:
    """Encodes entries to the bytes in the cache, and decodes them."""

    def __init__(self, code_deriver: CodeDeriver) -> None:
        self._code_deriver = code_deriver

    def encode(self, code: str, entry: CacheEntry) -> bytes:
        """The bytes of the entry, without the coupon's rejections: no decision on the cache depends on them."""
        match entry:
            case Claim(fence):
                body = b"F" + dump(fence)
            case Confirmed(coupon) | Provisional(coupon):
                bare = coupon._replace(rejections=()) if coupon.rejections else coupon
                body = (b"C" if isinstance(entry, Confirmed) else b"P") + encode_coupon(bare)
        return sealed(self._code_deriver, cache_key(code), body)

    def confirmed(self, code: str, provisional: bytes) -> bytes:
        """The bytes of the Confirmed entry, made of the bytes of the Provisional one."""
        body = b"C" + provisional[SEAL_LENGTH + 1 :]
        return sealed(self._code_deriver, cache_key(code), body)

    def decode(self, code: str, value: bytes) -> CacheEntry:
        """The entry; raises Malformed for bytes that this service did not write for this coupon."""
        body = opened(self._code_deriver, cache_key(code), value)
        match body[:1]:
            case b"C":
                return Confirmed(decode_coupon(body[1:]))
            case b"P":
                return Provisional(decode_coupon(body[1:]))
            case b"F":
                return Claim(decode_fence(body[1:]))
        raise Malformed(f"an entry of kind {body[:1]!r}")


def sealed(code_deriver: CodeDeriver, key: str, body: bytes) -> bytes:
    """The seal and the body: only ``opened`` with the same key and secret accepts it."""
    return code_deriver.seal(key, body) + body


def opened(code_deriver: CodeDeriver, key: str, value: bytes) -> bytes:
    """The body; raises Malformed when the seal is of another secret or key."""
    seal, body = value[:SEAL_LENGTH], value[SEAL_LENGTH:]
    if code_deriver.seal(key, body) != seal:
        raise Malformed("not sealed with this service's secret")
    return body
