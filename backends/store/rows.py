"""Rows of a store and the coupons that they are, or are not: who keeps them may have been written by anybody."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from coupon.domain.model import Coupon
from coupon.ports.store import NONE, Unreadable

NO_COUPON = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What decoding a row raises when it is no coupon's; ``wire.Malformed`` is a ValueError."""
Row = TypeVar("Row")


class Rows(NamedTuple):
    """The coupons, and why the other rows are none, by code."""

    coupons: list[Coupon]
    unreadable: Mapping[str, str] = NONE

    def by_code(self) -> dict[str, Coupon]:
        """Raises Unreadable when some of them are none."""
        found = {coupon.code: coupon for coupon in self.coupons}
        if self.unreadable:
            raise Unreadable(self.unreadable, found)
        return found


def read(rows: Sequence[Row], decode: Callable[[Row], Coupon], code_of: Callable[[Row], str]) -> Rows:
    """Decode the rows: all at once, as nearly always, or one by one, to see which cannot be."""
    try:
        return Rows([decode(row) for row in rows])
    except NO_COUPON:
        pass
    coupons, unreadable = [], {}
    for row in rows:
        try:
            coupons.append(decode(row))
        except NO_COUPON as error:
            unreadable[code_of(row)] = str(error) if isinstance(error, ValueError) else repr(error)
    return Rows(coupons, unreadable)
