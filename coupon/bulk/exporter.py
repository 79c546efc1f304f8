"""All coupons as CSV or JSON lines, by their wire names."""

import csv
from collections.abc import Callable, Iterable
from typing import Any, TextIO, cast

from coupon.bulk.cells import escape
from coupon.domain.codes import show
from coupon.domain.model import Coupon
from coupon.domain.serialization import Document, document, dump

Writer = Callable[[list[Coupon]], None]
BOOLEANS = {False: "false", True: "true"}
"""As JSON writes them."""


def csv_writer(out: TextIO, raw: bool = False) -> Writer:
    """Writes the header at once, then pages of coupons. Unless ``raw``, cells that a spreadsheet would run are
    escaped."""
    writer = csv.writer(out, lineterminator="\n")
    quoting = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(Document.__annotations__)

    def write(coupons: list[Coupon]) -> None:
        tears = any("\r" in coupon.user_id for coupon in coupons if coupon.user_id)  # csv leaves it without quotes
        (quoting if tears else writer).writerows(_cells(coupon, raw) for coupon in coupons)

    return write


def json_writer(out: TextIO) -> Writer:
    """Writes pages of coupons, a JSON object a line."""
    return lambda coupons: out.writelines(dump(_shown(coupon)).decode() + "\n" for coupon in coupons)


def export(pages: Iterable[list[Coupon]], write: Writer, on_progress: Callable[[int], None]) -> int:
    """Write all pages; returns the number of coupons."""
    count = 0
    for coupons in pages:
        write(coupons)
        count += len(coupons)
        on_progress(count)
    return count


def _shown(coupon: Coupon) -> Document:
    """With dashes in the code, as everybody reads it."""
    fields = document(coupon)
    fields["couponCode"] = show(coupon.code)
    return fields


def _cells(coupon: Coupon, raw: bool) -> list[Any]:
    """The cells in the header's order. The csv module writes None as an empty cell. Only the user's id was chosen by
    others."""
    fields = cast(dict[str, Any], _shown(coupon))
    fields["issued"], fields["used"] = BOOLEANS[fields["issued"]], BOOLEANS[fields["used"]]
    if coupon.user_id and not raw:
        fields["userId"] = escape(coupon.user_id)
    return list(fields.values())
