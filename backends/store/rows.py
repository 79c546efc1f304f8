"""Decoding the rows of a store, which may have been written by anybody: one that cannot be decoded fails no other."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from coupon.domain.errors import BackendRejected, Unreadable
from coupon.domain.model import Coupon
from coupon.ports.store import NONE, Record

NOT_OURS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""The errors of decoding a row that is no coupon's, or no record's. Malformed is a ValueError."""
Row = TypeVar("Row")
Decoded = TypeVar("Decoded")


class Rows(NamedTuple):
    """The coupons, and by code the reasons why other rows cannot be decoded."""

    coupons: list[Coupon]
    unreadable: Mapping[str, str] = NONE

    def by_code(self) -> dict[str, Coupon]:
        """The coupons by code. Raises Unreadable when some rows could not be decoded."""
        coupons = {coupon.code: coupon for coupon in self.coupons}
        if self.unreadable:
            raise Unreadable(self.unreadable, coupons)
        return coupons


class RecordRows(NamedTuple):
    """The records, and by key the reasons why other rows cannot be decoded."""

    records: list[Record]
    unreadable: Mapping[str, str] = NONE

    def by_key(self) -> dict[str, Record]:
        """The records by key. Raises BackendRejected when some rows could not be decoded."""
        for key, reason in self.unreadable.items():
            raise BackendRejected(f"what is stored under {key!r} is no record: {reason}")
        return {record.key: record for record in self.records}


def read(rows: Sequence[Row], decode: Callable[[Row], Coupon], code_of: Callable[[Row], str]) -> Rows:
    return Rows(*_read(rows, decode, code_of))


def read_records(rows: Sequence[Row], decode: Callable[[Row], Record], key_of: Callable[[Row], str]) -> RecordRows:
    return RecordRows(*_read(rows, decode, key_of))


def _read(
    rows: Sequence[Row], decode: Callable[[Row], Decoded], name_of: Callable[[Row], str]
) -> tuple[list[Decoded], Mapping[str, str]]:
    """Decode the rows. Nearly always all can be decoded; if not, each is decoded by itself, to find the reasons."""
    try:
        return [decode(row) for row in rows], NONE
    except NOT_OURS:
        pass
    decoded, unreadable = [], {}
    for row in rows:
        try:
            decoded.append(decode(row))
        except NOT_OURS as error:
            unreadable[name_of(row)] = str(error) if isinstance(error, ValueError) else repr(error)
    return decoded, unreadable
