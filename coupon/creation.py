"""A creation, cut into chunks: a message is a range of codes of one operation, so a million coupons are two thousand
small messages, and nobody ever holds a million codes.

A chunk's last code is its marker: the worker writes it after all others of the chunk, so a stored marker means
that the chunk is complete. That is how the progress of a creation is known from the store alone.
"""

from collections.abc import Iterator

from coupon.codes import Mint
from coupon.model import CHUNK, CreateCoupons
from coupon.ports.store import Store


def chunks(creation: CreateCoupons) -> Iterator[CreateCoupons]:
    """The creation of ``amount`` coupons as its messages."""
    for first in range(0, creation.amount, CHUNK):
        yield creation._replace(first=first, size=min(CHUNK, creation.amount - first))


def codes_of(command: CreateCoupons, mint: Mint) -> list[str]:
    """The chunk's codes; the last one is its marker."""
    return list(command.codes) or list(mint.codes(command.operation, command.first, command.size))


def marker_of(chunk: CreateCoupons, mint: Mint) -> str:
    return next(mint.codes(chunk.operation, chunk.first + chunk.size - 1, 1))


def missing(creation: CreateCoupons, mint: Mint, store: Store) -> list[CreateCoupons]:
    """The chunks that are not (wholly) in the store yet."""
    markers = {marker_of(chunk, mint): chunk for chunk in chunks(creation)}
    stored = store.get_many(markers)
    return [chunk for marker, chunk in markers.items() if marker not in stored]
