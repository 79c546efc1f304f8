"""The cache: a hint. It makes validation fast, and holds reservations. Losing it costs speed, never truth."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from coupon.ports.backend import Backend


class Cached(NamedTuple):
    """A value and its token. The token identifies the write that was read, in any thread and process; it is not
    None."""

    value: bytes
    token: Any


class Write(NamedTuple):
    """An entry to store: in place of the one that ``token`` identifies, or only if the key is missing."""

    key: str
    value: bytes
    ttl_s: int
    token: Any = None


class Written(NamedTuple):
    """The new entries' tokens, in order: None for what was not stored. ``others`` has the other entries by key."""

    tokens: list[Any]
    others: dict[str, Cached]


class Cache(Backend):
    """Keys: 1 to 200 printable ASCII characters without spaces. Values: bytes, to 512 KiB. Lifetimes: whole seconds,
    1 to 30 days. Anything else is a BackendRejected, and nothing is changed.

    Each method is atomic for each key. Entries may vanish at any time. Decisions never use ``put``: readers fill a miss
    with ``add``, writers compare and set. So an older entry never overwrites a newer one.

    A failure is always raised as BackendUnavailable, never passed off as a miss. A write whose reply was lost is never
    taken for a rival's: it raises BackendUnavailable, or returns what it did.
    """

    @abstractmethod
    def get(self, key: str) -> Cached | None:
        """The value and its token; None when missing or expired.

        An entry that was not written through this contract (too long, or no bytes) has an empty value. Its token is
        valid, so it can be replaced."""

    @abstractmethod
    def add(self, key: str, value: bytes, ttl_s: int) -> Any:
        """Store only if the key is missing. Returns the new entry's token; None, and nothing changed, if it was
        there."""

    def get_many(self, keys: Iterable[str]) -> dict[str, Cached]:
        """``get`` each: the entries that are there, by key. A backend may do it in one round trip."""
        found = ((key, self.get(key)) for key in keys)
        return {key: cached for key, cached in found if cached is not None}

    def write_many(self, writes: Sequence[Write], others: Iterable[str] = ()) -> Written:
        """``add`` or ``replace`` each; then ``get_many`` the others. All keys differ, and the others have the ``place``
        of a write. Each write is atomic by itself. A backend may do it in one round trip. After a BackendUnavailable
        some may have been written."""
        tokens = [
            self.add(key, value, ttl_s) if token is None else self.replace(key, value, token, ttl_s)
            for key, value, ttl_s, token in writes
        ]
        return Written(tokens, self.get_many(others))

    @abstractmethod
    def replace(self, key: str, value: bytes, token: Any, ttl_s: int) -> Any:
        """Store only if the entry is still the one that ``token`` identifies. Returns the new entry's token.

        None, and nothing changed, when it was written since (also with the same bytes), deleted, or has expired."""

    @abstractmethod
    def remove(self, key: str, token: Any) -> bool:
        """Delete only if the entry is still the one that ``token`` identifies; else return False, nothing changed."""

    @abstractmethod
    def delete_many(self, keys: Iterable[str]) -> None:
        """Delete unconditionally; missing keys are fine. Idempotent; not atomic across keys."""

    @abstractmethod
    def put(self, key: str, value: bytes, ttl_s: int) -> None:
        """Store unconditionally. For values that no decision depends on, such as a worker's heartbeat."""

    @abstractmethod
    def place(self, key: str) -> str:
        """The name of the server that has the key, always the same for a key. Its entries may be lost together. No
        I/O."""

    @abstractmethod
    def evicted(self, key: str) -> int | None:
        """How many unexpired entries the key's server has evicted for lack of memory since it started. None when it
        never evicts. An eviction is counted before any ``get`` misses the entry."""
