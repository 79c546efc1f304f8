"""Whether one state of a coupon can have come of another: so a cache entry is compared with the store."""

from coupon.domain.model import Coupon, HistoryEntry


def extends(stored: Coupon | None, expected: Coupon) -> bool:
    """True when ``expected`` is the stored coupon with some more commands, none of which is settled otherwise."""
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
    """Whether both tell of the same deed. Not when: of two attempts of one operation, either may have been first."""
    return (one.operation, one.kind, one.user_id) == (other.operation, other.kind, other.user_id)
