"""Rebuilding the search index from the store, while the service runs."""

from collections.abc import Callable, Iterable

from coupon.domain.model import Coupon
from coupon.ports.search import Search


def reindex(pages: Iterable[list[Coupon]], search: Search, on_progress: Callable[[int], None]) -> int:
    """Write all pages to the next generation of the index, which then becomes the present one. Returns the number of
    coupons. After an error the present generation stays."""
    count = 0
    with search.rebuild() as rebuild:
        for coupons in pages:
            rebuild.add_many(coupons)
            count += len(coupons)
            on_progress(count)
    return count
