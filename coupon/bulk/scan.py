"""All coupons of the store, page by page."""

from collections.abc import Callable, Iterator, Mapping

from coupon.domain.model import Coupon
from coupon.ports.store import Store, Unreadable

PAGE = 1_000


def pages(store: Store, tell: Callable[[Mapping[str, str]], None] | None = None) -> Iterator[list[Coupon]]:
    """Every coupon that is there all the time, exactly once; in flat memory. ``tell`` is told what is stored and is no
    coupon, by its code, with the reason; without it, that raises Unreadable."""
    page = store.scan(PAGE)
    while True:
        if page.unreadable and tell is None:
            raise Unreadable(page.unreadable, {})
        if page.unreadable and tell is not None:
            tell(page.unreadable)
        yield page.coupons
        if page.next is None:
            return
        page = store.scan(PAGE, page.next)
