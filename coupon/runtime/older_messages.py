"""What the store says of signatures, in one record. The store is trusted where the queue is not.

- Which keys are ours. A process with another secret, or an older keyring, must not take good messages for forged ones.
- Which messages are taken though no present key has signed them. `coupon init` records the ends of all topics: what is
  before them may be unsigned, so a queue of an earlier version is applied. `coupon rotate-secret --retire` records them
  for a key.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec
from msgspec import structs

from coupon.domain.clock import Clock, monotonic_ms
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.ports.queue import Position
from coupon.ports.store import Record, Store
from coupon.runtime.worker_registry import show

KIND, KEY = "signatures", "older"
UNSIGNED = ""
"""In the place of a key's id: messages without a signature."""
LOOK_MS, PATIENCE = 1_000, 10
"""A process looks at the record so often. Where the store takes long to answer, or hangs, it is asked more rarely: it
costs one thread a tenth of its time."""
Ends = Mapping[str, int]
"""Offsets by ``topic/partition``."""


class Older(msgspec.Struct, frozen=True):
    """``before`` has, by the id of a key, the offsets before which its messages are taken; None for all of its
    messages. ``keys`` has the ids of all keys that ever signed; empty before the first `coupon init`."""

    before: dict[str, dict[str, int] | None] = {}
    keys: list[str] = []

    @property
    def has_bound(self) -> bool:
        """Whether some unsigned messages are refused."""
        return self.before.get(UNSIGNED) is not None

    @property
    def says_what_may_be_unsigned(self) -> bool:
        """Whether `coupon init` was run since messages are signed."""
        return UNSIGNED in self.before

    def is_retired(self, key_id: str) -> bool:
        """Whether what that key signs from now on is forged."""
        return self.before.get(key_id) is not None

    def takes(self, key_id: str, position: Position, offset: int) -> bool:
        """Whether that message is taken. A key without an entry is not retired."""
        ends = self.before.get(key_id)
        return ends is None or offset < ends.get(show(position), 0)


class OlderMessages:
    """The record of a store. Thread-safe."""

    def __init__(self, store: Store, timer: Clock = monotonic_ms) -> None:
        self._store, self._timer = store, timer
        self._recent: Older | None = None
        self._due: int | None = None

    def present(self) -> Older:
        """The record as it is. Raises BackendUnavailable."""
        began = self._due = self._timer()
        self._due += LOOK_MS  # for other threads, which do not wait for this one
        try:
            self._recent = decode(_read(self._store))
        finally:
            now = self._timer()
            self._due = now + max(LOOK_MS, PATIENCE * (now - began))
        return self._recent

    def recent(self) -> Older | None:
        """The record as it was a second ago, or when the store last answered; None when it never did."""
        if self._due is None or self._timer() >= self._due:
            with suppress(BackendUnavailable):
                return self.present()
        return self._recent


def decode(record: Record | None) -> Older:
    """Raises BackendUnavailable for what is no such record: nothing is refused until an operator has mended it."""
    try:
        return Older() if record is None else _OLDER.decode(record.body)
    except msgspec.DecodeError as error:
        raise BackendUnavailable(f"the record {KIND} {KEY} cannot be read: {error}") from error


def change(store: Store, changed: Callable[[Older], Older]) -> Older:
    """Change the record, and return it. Raises BackendUnavailable."""
    while True:
        record = _read(store)
        before = decode(record)
        after = changed(before)
        if record is not None and after == before:
            return after
        body = msgspec.json.encode(after).decode()
        if not store.save_groups([[Record(KIND, KEY, record.revision + 1 if record else 1, body)]]):
            return after


def with_ends(older: Older, key_id: str, ends: Ends | None) -> Older:
    """The record with these ends for a key, of which those that are 0 need not be stored."""
    return structs.replace(
        older, before=older.before | {key_id: None if ends is None else {at: end for at, end in ends.items() if end}}
    )


def with_key(older: Older, key_id: str) -> Older:
    """The record with a key that is ours."""
    return older if key_id in older.keys else structs.replace(older, keys=[*older.keys, key_id])


def _read(store: Store) -> Record | None:
    try:
        return store.get_records(KIND, [KEY]).get(KEY)
    except BackendRejected as error:
        raise BackendUnavailable(str(error)) from error


_OLDER = msgspec.json.Decoder(Older)
