"""The ring of API keys in the store: one record, so that each change of it is atomic (decision 31)."""

from collections.abc import Callable
from typing import TypeVar

from coupon.domain.api_keys import KeyRing, decode_ring
from coupon.domain.errors import BackendRejected, BackendUnavailable, Malformed
from coupon.ports.store import Record, Store

KIND, KEY = "api-keys", "all"
TRIES = 20
"""How often a change may lose to another one."""
Result = TypeVar("Result")


def read_ring(store: Store) -> KeyRing:
    """The ring; an empty one before the first key. Raises BackendUnavailable, BackendRejected."""
    return _read(store)[0]


def change_ring(store: Store, change: Callable[[KeyRing], tuple[KeyRing, Result]]) -> Result:
    """Replace the ring by the changed one; returns what the change returns beside it. Raises what the change raises."""
    for _ in range(TRIES):
        ring, revision = _read(store)
        changed, result = change(ring)
        if not store.save_groups([[Record(KIND, KEY, revision + 1, changed.encoded())]]):
            return result
    raise BackendUnavailable("the API keys are being changed by others again and again")


def _read(store: Store) -> tuple[KeyRing, int]:
    record = store.get_records(KIND, [KEY]).get(KEY)
    if record is None:
        return KeyRing({}), 0
    try:
        return decode_ring(record.body), record.revision
    except Malformed as error:
        raise BackendRejected(f"the record of API keys cannot be read: {error}") from error
