"""All coupons of the store, page by page."""

from collections.abc import Iterator

from coupon.model import Coupon
from coupon.ports.store import Store

PAGE = 1_000


def pages(store: Store) -> Iterator[list[Coupon]]:
    """Every coupon that is there all the time, exactly once; in flat memory."""
    page = store.scan(PAGE)
    yield page.coupons
    while page.next is not None:
        page = store.scan(PAGE, page.next)
        yield page.coupons
