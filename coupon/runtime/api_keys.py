"""The API keys in the store: all are one record, so that each change is atomic (decision 31)."""

from collections.abc import Callable
from typing import TypeVar

from coupon.domain.api_keys import ApiKeys, decode_api_keys
from coupon.domain.errors import BackendRejected, BackendUnavailable, Malformed
from coupon.ports.store import Record, Store

KIND, KEY = "api-keys", "all"
TRIES = 20
"""How often a change may lose to another one."""
Result = TypeVar("Result")


def read_api_keys(store: Store) -> ApiKeys:
    """All keys; none before the first one. Raises BackendUnavailable, BackendRejected."""
    return _read(store)[0]


def change_api_keys(store: Store, change: Callable[[ApiKeys], tuple[ApiKeys, Result]]) -> Result:
    """Replace the keys by the changed ones; returns what the change returns beside them, and raises what it raises."""
    for _ in range(TRIES):
        keys, revision = _read(store)
        changed, result = change(keys)
        if not store.save_groups([[Record(KIND, KEY, revision + 1, changed.encoded())]]):
            return result
    raise BackendUnavailable("the API keys are being changed by others again and again")


def _read(store: Store) -> tuple[ApiKeys, int]:
    record = store.get_records(KIND, [KEY]).get(KEY)
    if record is None:
        return ApiKeys({}, is_recorded=False), 0
    try:
        return decode_api_keys(record.body), record.revision
    except Malformed as error:
        raise BackendRejected(f"the record of API keys cannot be read: {error}") from error
