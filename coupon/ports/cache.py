"""The cache: a hint. It makes validation fast and reserves the next step; losing it costs speed, never truth."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple

from coupon.ports.backend import Backend


class Cached(NamedTuple):
    """A value and the token that proves which write of it was read, in any thread and process. No token is None."""

    value: bytes
    token: Any


class Added(NamedTuple):
    """The token of the entry that was added, None when there was one already; and the entry of the other key."""

    token: Any
    other: Cached | None


class Cache(Backend):
    """Keys: 1 to 200 printable ASCII characters without spaces. Values: bytes, to 512 KiB. Lifetimes: whole seconds,
    1 to 30 days. Anything else is a BackendRejected, and nothing is changed.

    Each method is atomic a key; entries may vanish at any time. There is no plain ``set``: readers fill a miss with
    ``add``, writers compare and set, so nothing older ever overwrites something newer.

    A failure is always raised as BackendUnavailable, never passed off as a miss.
    """

    @abstractmethod
    def get(self, key: str) -> Cached | None:
        """The value and its token; None when missing or expired. What is there and was not written through this
        contract (too long, or of another kind than bytes) is empty, with its token: it can be replaced."""

    @abstractmethod
    def add(self, key: str, value: bytes, ttl_s: int) -> Any:
        """Store only if the key is missing; the new entry's token. None, and nothing changed, when it is there."""

    def add_and_get(self, key: str, value: bytes, ttl_s: int, other: str) -> Added:
        """``add`` the key, and then ``get`` the other one, which has the same ``place``. A backend that can do both in
        one go does."""
        return Added(self.add(key, value, ttl_s), self.get(other))

    @abstractmethod
    def replace(self, key: str, value: bytes, token: Any, ttl_s: int) -> Any:
        """Store only if the entry is still the one that ``token`` is of; the new entry's token. None, and nothing
        changed, when it was written since (also with the same bytes), or is gone."""

    @abstractmethod
    def remove(self, key: str, token: Any) -> bool:
        """Delete only if the entry is still the one that ``token`` is of; else False, nothing changed."""

    @abstractmethod
    def delete_many(self, keys: Iterable[str]) -> None:
        """Delete whatever is there; missing keys are fine. Idempotent; not atomic across keys."""

    @abstractmethod
    def put(self, key: str, value: bytes, ttl_s: int) -> None:
        """Store whatever is there. For values that nobody decides on (a worker's heartbeat)."""

    @abstractmethod
    def place(self, key: str) -> str:
        """Names the server that has the key: what is there may be lost together. No I/O; always the same for a key."""

    @abstractmethod
    def evicted(self, key: str) -> int | None:
        """How many entries the key's server has given up for want of room since it started, none of which had expired;
        None when it never does that. An entry that is lost so is counted before anybody can miss it."""
