"""The store: the truth, keyed by coupon code."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from coupon.domain.model import Coupon
from coupon.ports.backend import Backend, BackendRejected

NONE: Mapping[str, str] = MappingProxyType({})


def fault(code: str, reason: str) -> str:
    """The sentence that tells of a coupon which cannot be read."""
    return f"what is stored of {code} is no coupon: {reason}"


class Unreadable(BackendRejected):
    """What is stored under these codes is no coupon: ``reasons`` says why, by code. ``found`` are all others that were
    asked for. It stays so until an operator mends the row."""

    def __init__(self, reasons: Mapping[str, str], found: Mapping[str, Coupon]) -> None:
        super().__init__("; ".join(fault(code, why) for code, why in reasons.items()))
        self.reasons, self.found = dict(reasons), dict(found)


class Page(NamedTuple):
    """Some of a scan's coupons and the cursor for the next ones; None when these were the last. ``unreadable``: what is
    stored there too and is no coupon, by its code, with the reason."""

    coupons: list[Coupon]
    next: str | None
    unreadable: Mapping[str, str] = NONE


class Store(Backend):
    """Reads see every write that was answered before them (strongly consistent)."""

    @abstractmethod
    def create(self) -> None:
        """Make the tables that are missing. Idempotent."""

    @abstractmethod
    def get_many(self, codes: Iterable[str]) -> dict[str, Coupon]:
        """The coupons that exist, by code. Any number of codes, duplicates too; not one snapshot across coupons.
        Raises Unreadable, with all others, when some exist and cannot be read."""

    @abstractmethod
    def save_many(self, coupons: Sequence[Coupon]) -> set[str]:
        """Write each coupon only if the stored one's revision is ``coupon.revision - 1``; with revision 1, only if
        there is none. Returns the codes whose condition failed: those are unchanged, all others are written.

        Each coupon is atomic; a batch is not. At most one coupon a code. One round trip for about a hundred.
        Raises BackendUnavailable: any of them may have been written or not. Saving again is safe: what was
        written the first time is then among the failed conditions, with this very coupon stored."""

    @abstractmethod
    def scan(self, limit: int, cursor: str | None = None) -> Page:
        """Up to ``limit`` coupons in no order, beginning behind ``cursor``. Walking the cursors gives every coupon that
        was there all the time exactly once, also what cannot be read. A page may be short, even empty, with more to
        come. Raises BackendRejected for a cursor that no scan gave."""
