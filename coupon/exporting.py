"""All coupons as CSV or JSON lines, by their wire names."""

import csv
from collections.abc import Callable, Iterable
from typing import TextIO

from coupon.model import Coupon
from coupon.wire import Document, document, dump

Writer = Callable[[list[Coupon]], None]


def csv_writer(out: TextIO) -> Writer:
    """Writes the header at once, then pages of coupons."""
    writer = csv.DictWriter(out, list(Document.__annotations__), lineterminator="\n")
    writer.writeheader()
    return lambda coupons: writer.writerows(_cells(document(coupon)) for coupon in coupons)


def json_writer(out: TextIO) -> Writer:
    """Writes pages of coupons, a JSON object a line."""
    return lambda coupons: out.writelines(dump(document(coupon)).decode() + "\n" for coupon in coupons)


def export(pages: Iterable[list[Coupon]], write: Writer, on_progress: Callable[[int], None]) -> int:
    """Write all pages; the number of coupons."""
    count = 0
    for coupons in pages:
        write(coupons)
        count += len(coupons)
        on_progress(count)
    return count


def _cells(fields: Document) -> dict[str, object]:
    """Booleans as JSON writes them; the csv module leaves None empty."""
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in fields.items()}
