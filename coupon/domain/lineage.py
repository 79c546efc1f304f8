"""Comparing a cache entry with the store: whether one state of a coupon can follow from another."""

from coupon.domain.model import Coupon, HistoryEntry


def extends(stored: Coupon | None, expected: Coupon) -> bool:
    """Whether ``expected`` is the stored coupon with zero or more commands on top, none of which has lost."""
    if stored is None or stored.version > expected.version:
        return False
    for version in range(expected.version - len(expected.history) + 1, expected.version + 1):
        theirs, ours = expected.entry_at(version), stored.entry_at(version)
        if theirs is None or (ours is not None and not _is_same(theirs, ours)):
            return False
        if version > stored.version and expected.number_at(version) <= stored.settled:
            return False
    return True


def _is_same(one: HistoryEntry, other: HistoryEntry) -> bool:
    """Whether both are of one operation. Their instants may differ: of two attempts, either may have come first."""
    return (one.operation, one.kind, one.user_id) == (other.operation, other.kind, other.user_id)
