"""An ``Idempotency-Key`` belongs to one request: the first one with it that was not refused.

An operation is derived from the caller, the key and the request's words, so another request with the key is another
operation, whatever is lost. Here the cache binds the key for some hours, so that the second request is refused at once;
later the coupon's history knows it (decision 18).
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import CacheAway, IdempotencyKeyReused, Malformed
from coupon.ports.cache import Cached, Write
from coupon.runtime.cache_entries import CacheOrAway, opened, sealed

ACCEPTED = b"+"
ATTEMPTS = 20
_BOUND = re.compile(rb"([a-z0-9]+) ([0-9]{1,9})(\+?)")


class Binding(NamedTuple):
    """A key that is bound to an operation. ``accepted``: the queue has all of the operation's messages."""

    name: str
    operation: str
    accepted: bool


class Bound(NamedTuple):
    """What a key's entry holds. So many ``requests`` with the operation's words count on it: all but the refused."""

    operation: str
    requests: int
    accepted: bool


class IdempotencyKeys:
    """Thread-safe. Every method raises CacheAway when the cache does not answer."""

    def __init__(self, cache: CacheOrAway, code_deriver: CodeDeriver, hours: int) -> None:
        self._cache, self._code_deriver, self._ttl_s = cache, code_deriver, hours * 3_600

    def bind(self, caller: str, key: str, operation: str) -> Binding:
        """Bind the key to the operation; raises IdempotencyKeyReused when it is bound to another one."""
        name = self._name(caller, key)
        first = Bound(operation, 1, accepted=False)
        for _ in range(ATTEMPTS):
            if self._write(name, first, None):
                return Binding(name, operation, accepted=False)
            cached, bound = self._read(name)
            if cached is None:
                continue
            bound = bound or first._replace(requests=0)
            if bound.operation != operation:
                raise IdempotencyKeyReused
            if self._write(name, bound._replace(requests=bound.requests + 1), cached):
                return Binding(name, operation, bound.accepted)
        raise CacheAway(f"an Idempotency-Key's entry changed {ATTEMPTS} times between our read and our write")

    def bind_new(self, keys: Sequence[tuple[str, str, str]]) -> list[Binding | None]:
        """Bind each key (caller, key, operation) that is not bound yet; None for the others, which have to be
        bound one by one."""
        names = [self._name(caller, key) for caller, key, _ in keys]
        writes = [
            Write(name, self._encode(name, Bound(operation, 1, accepted=False)), self._ttl_s)
            for name, (_, _, operation) in zip(names, keys, strict=True)
        ]
        tokens = self._cache.write_many(writes).tokens
        return [
            None if token is None else Binding(name, operation, accepted=False)
            for name, (_, _, operation), token in zip(names, keys, tokens, strict=True)
        ]

    def check(self, caller: str, key: str, operation: str) -> None:
        """Raises IdempotencyKeyReused when the key is bound to another operation."""
        _, bound = self._read(self._name(caller, key))
        if bound is not None and bound.operation != operation:
            raise IdempotencyKeyReused

    def release(self, binding: Binding) -> None:
        """The request was refused: the key is free, unless another one with the same words counts on it."""
        self._change(binding, lambda bound: bound._replace(requests=bound.requests - 1))

    def accepted(self, binding: Binding) -> None:
        """The queue has all of the operation's messages."""
        self._change(binding, lambda bound: bound._replace(accepted=True))

    def _change(self, binding: Binding, change: Callable[[Bound], Bound]) -> None:
        """While the key is bound so."""
        for _ in range(ATTEMPTS):
            cached, bound = self._read(binding.name)
            if cached is None or bound is None or bound.operation != binding.operation:
                return
            changed = change(bound)
            if changed.requests == 0:
                if self._cache.remove(binding.name, cached.token):
                    return
            elif self._write(binding.name, changed, cached):
                return

    def _write(self, name: str, bound: Bound, cached: Cached | None) -> bool:
        """In the place of what was read; False when that is there no more."""
        value = self._encode(name, bound)
        if cached is None:
            return self._cache.add(name, value, self._ttl_s) is not None
        return self._cache.replace(name, value, cached.token, self._ttl_s) is not None

    def _encode(self, name: str, bound: Bound) -> bytes:
        state = ACCEPTED if bound.accepted else b""
        return sealed(self._code_deriver, name, b"%b %d%b" % (bound.operation.encode(), bound.requests, state))

    def _name(self, caller: str, key: str) -> str:
        return f"key:{self._code_deriver.key(caller, key)}"

    def _read(self, name: str) -> tuple[Cached | None, Bound | None]:
        """The entry, and what it says: None for what nobody can read, which is written over."""
        cached = self._cache.get(name)
        try:
            match = cached and _BOUND.fullmatch(opened(self._code_deriver, name, cached.value))
        except Malformed:
            match = None
        return cached, Bound(match[1].decode(), int(match[2]), match[3] == ACCEPTED) if match else None
