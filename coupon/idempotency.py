"""An ``Idempotency-Key`` belongs to one request: the first one with it that was not refused.

An operation is derived from the caller, the key and the request's words, so another request with the key is another
operation, whatever is lost. Here the cache binds the key for some hours, so that the second request is refused at once;
later the coupon's history knows it.
"""

from typing import Any, NamedTuple

from coupon.cache_entries import CacheAway, CacheOrAway, opened, sealed
from coupon.codes import Mint
from coupon.ports.cache import Cached
from coupon.wire import Malformed

ACCEPTED = b"+"
ATTEMPTS = 20


class IdempotencyKeyReused(Exception):
    """The key was used before, for another request."""


class Binding(NamedTuple):
    """A key that is bound to an operation. ``accepted``: the queue has all of the operation's messages. ``is_new``: it
    was bound by this request, and not by an earlier one with the same words."""

    name: str
    operation: str
    token: Any
    accepted: bool
    is_new: bool


class IdempotencyKeys:
    """Thread-safe. Every method raises CacheAway when the cache does not answer."""

    def __init__(self, cache: CacheOrAway, mint: Mint, hours: int) -> None:
        self._cache, self._mint, self._ttl_s = cache, mint, hours * 3_600

    def bind(self, caller: str, key: str, operation: str) -> Binding:
        """Bind the key to the operation; raises IdempotencyKeyReused when it is bound to another one."""
        name = self._name(caller, key)
        value = self._encode(name, operation)
        for _ in range(ATTEMPTS):
            token = self._cache.add(name, value, self._ttl_s)
            if token is not None:
                return Binding(name, operation, token, accepted=False, is_new=True)
            cached = self._cache.get(name)
            if cached is None:
                continue
            bound = self._decode(name, cached)
            if bound is None:
                self._cache.remove(name, cached.token)
                continue
            accepted = bound == operation.encode() + ACCEPTED
            if not accepted and bound != operation.encode():
                raise IdempotencyKeyReused
            # Written again, so that who bound it first and is refused does not unbind it.
            token = self._cache.replace(name, cached.value, cached.token, self._ttl_s)
            if token is not None:
                return Binding(name, operation, token, accepted, is_new=False)
        raise CacheAway(f"an Idempotency-Key's entry changed {ATTEMPTS} times between our read and our write")

    def check(self, caller: str, key: str, operation: str) -> None:
        """Raises IdempotencyKeyReused when the key is bound to another operation."""
        name = self._name(caller, key)
        cached = self._cache.get(name)
        bound = None if cached is None else self._decode(name, cached)
        if bound is not None and bound.removesuffix(ACCEPTED) != operation.encode():
            raise IdempotencyKeyReused

    def release(self, binding: Binding) -> None:
        """The request was refused: the key is free, unless another one with the same words bound it before, or goes on
        with it."""
        if binding.is_new:
            self._cache.remove(binding.name, binding.token)

    def accepted(self, binding: Binding) -> None:
        """The queue has all of the operation's messages."""
        value = self._encode(binding.name, binding.operation, ACCEPTED)
        self._cache.replace(binding.name, value, binding.token, self._ttl_s)

    def _name(self, caller: str, key: str) -> str:
        return f"key:{self._mint.key(caller, key)}"

    def _encode(self, name: str, operation: str, state: bytes = b"") -> bytes:
        return sealed(self._mint, name, operation.encode() + state)

    def _decode(self, name: str, cached: Cached) -> bytes | None:
        try:
            return opened(self._mint, name, cached.value)
        except Malformed:
            return None
