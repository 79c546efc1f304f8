"""All coupons as CSV or JSON lines, by their wire names, with dashes in the codes, as everybody reads them."""

import csv
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from coupon.bulk.cells import escape
from coupon.domain.codes import show
from coupon.domain.model import Coupon
from coupon.domain.serialization import Document, document, dump

NAMES = list(Document.__annotations__)
CODE, USER_ID, ISSUED, USED = map(NAMES.index, ("couponCode", "userId", "issued", "used"))
Writer = Callable[[list[Coupon]], None]
BOOLEANS = {False: "false", True: "true"}
"""As JSON writes them."""


def csv_writer(out: TextIO, raw: bool = False) -> Writer:
    """Writes the header at once, then pages of coupons. Unless ``raw``, cells that a spreadsheet would run are
    escaped."""
    writer = csv.writer(out, lineterminator="\n")
    quoting = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(NAMES)

    def write(coupons: list[Coupon]) -> None:
        tears = any("\r" in coupon.user_id for coupon in coupons if coupon.user_id)  # csv leaves it without quotes
        (quoting if tears else writer).writerows(_cells(coupon, raw) for coupon in coupons)

    return write


def json_writer(out: TextIO) -> Writer:
    """Writes pages of coupons, a JSON object a line."""

    def line(coupon: Coupon) -> str:
        fields = document(coupon)
        fields["couponCode"] = show(coupon.code)
        return dump(fields).decode() + "\n"

    return lambda coupons: out.writelines(map(line, coupons))


def export(pages: Iterable[list[Coupon]], write: Writer, on_progress: Callable[[int], None]) -> int:
    """Write all pages; returns the number of coupons."""
    count = 0
    for coupons in pages:
        write(coupons)
        count += len(coupons)
        on_progress(count)
    return count


def _cells(coupon: Coupon, raw: bool) -> list[Any]:
    """The cells in the header's order. The csv module writes None as an empty cell. Only the user's id was chosen by
    others."""
    cells: list[Any] = list(document(coupon).values())
    cells[CODE], cells[ISSUED], cells[USED] = show(coupon.code), BOOLEANS[cells[ISSUED]], BOOLEANS[cells[USED]]
    if coupon.user_id and not raw:
        cells[USER_ID] = escape(coupon.user_id)
    return cells
