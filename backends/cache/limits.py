"""The contract's limits of keys, values and lifetimes. They are the same for every backend, so that an entry that works
on a laptop is not refused at scale."""

import re
from collections.abc import Iterable

from coupon.domain.errors import BackendRejected, ConfigurationError

VALUE_MAX = 512 * 1024
TTL_MAX_S = 30 * 86_400
_is_key = re.compile(r"[!-~]{1,200}").fullmatch


def check_key(key: str) -> None:
    """Raise BackendRejected unless it is 1 to 200 printable ASCII characters without spaces."""
    if not _is_key(key):
        raise BackendRejected(f"a cache key is 1 to 200 printable ASCII characters without spaces, not {key!r}")


def checked_keys(keys: Iterable[str]) -> list[str]:
    """The keys. Raises BackendRejected unless all are allowed."""
    names = list(keys)
    for key in names:
        check_key(key)
    return names


def check_entry(key: str, value: bytes, ttl_s: int) -> None:
    """Raise BackendRejected unless all three are allowed."""
    check_key(key)
    if len(value) > VALUE_MAX:
        raise BackendRejected(f"{key!r}: {len(value)} bytes are more than the {VALUE_MAX} that a cache takes")
    if not 1 <= ttl_s <= TTL_MAX_S:
        raise BackendRejected(f"{key!r}: a lifetime is 1 to {TTL_MAX_S} seconds, not {ttl_s}")


def check_prefix(prefix: str) -> None:
    """Raise ConfigurationError unless it may precede every key."""
    if not re.fullmatch(r"[!-~]{0,50}", prefix):
        raise ConfigurationError(f"prefix={prefix!r} is not up to 50 printable ASCII characters without spaces")
