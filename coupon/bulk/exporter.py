"""All coupons as CSV or JSON lines, by their wire names."""

import csv
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from coupon.domain.model import Coupon
from coupon.domain.serialization import Document, document, dump

Writer = Callable[[list[Coupon]], None]
BOOLEANS = {False: "false", True: "true"}
"""As JSON writes them."""


def csv_writer(out: TextIO) -> Writer:
    """Writes the header at once, then pages of coupons."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(Document.__annotations__)
    return lambda coupons: writer.writerows(_cells(document(coupon)) for coupon in coupons)


def json_writer(out: TextIO) -> Writer:
    """Writes pages of coupons, a JSON object a line."""
    return lambda coupons: out.writelines(dump(document(coupon)).decode() + "\n" for coupon in coupons)


def export(pages: Iterable[list[Coupon]], write: Writer, on_progress: Callable[[int], None]) -> int:
    """Write all pages; returns the number of coupons."""
    count = 0
    for coupons in pages:
        write(coupons)
        count += len(coupons)
        on_progress(count)
    return count


def _cells(fields: Document) -> list[Any]:
    """The cells in the header's order. The csv module writes None as an empty cell."""
    return list((fields | {"issued": BOOLEANS[fields["issued"]], "used": BOOLEANS[fields["used"]]}).values())
