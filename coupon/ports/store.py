"""The store: the truth, keyed by coupon code."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from coupon.model import Coupon
from coupon.ports.backend import Backend


class Page(NamedTuple):
    """Some of a scan's coupons and the cursor for the next ones; None when these were the last."""

    coupons: list[Coupon]
    next: str | None


class Store(Backend):
    """Reads see every write that was answered before them (strongly consistent)."""

    @abstractmethod
    def create(self) -> None:
        """Make the tables that are missing. Idempotent."""

    @abstractmethod
    def get_many(self, codes: Iterable[str]) -> dict[str, Coupon]:
        """The coupons that exist, by code. Any number of codes, duplicates too; not one snapshot across coupons."""

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
        was there all the time exactly once. A page may be short, even empty, with more to come.
        Raises BackendRejected for a cursor that no scan gave."""
