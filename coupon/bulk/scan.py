"""All coupons of the store, page by page."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from coupon.domain.errors import Unreadable
from coupon.domain.model import Coupon
from coupon.ports.store import Store
from coupon.runtime.retry import Retrying, at_once

PAGE = 1_000


def pages(
    store: Store,
    on_unreadable: Callable[[Mapping[str, str]], None] | None = None,
    with_retries: Retrying = at_once,
) -> Iterator[list[Coupon]]:
    """Every coupon that exists all the time, exactly once, in flat memory.

    ``on_unreadable`` is called with the reasons, by code, for rows that cannot be decoded as coupons. Without it, such
    a row raises Unreadable. Raises BackendUnavailable."""
    page = with_retries(partial(store.scan, PAGE))
    while True:
        if page.unreadable and on_unreadable is None:
            raise Unreadable(page.unreadable, {})
        if page.unreadable and on_unreadable is not None:
            on_unreadable(page.unreadable)
        yield page.coupons
        if page.next is None:
            return
        page = with_retries(partial(store.scan, PAGE, page.next))
