"""A creation, cut into chunks: a message is a range of codes of one operation, so a million coupons are two thousand
small messages, and nobody ever holds a million codes.

A chunk's last code is its marker: the worker writes it after all others of the chunk, so a stored marker means
that the chunk is complete. That is how the progress of a creation is known from the store alone (decision 3).
"""

from collections.abc import Iterator
from typing import NamedTuple

from coupon.domain.codes import CodeDeriver
from coupon.domain.model import CHUNK, CreateCoupons


class Chunk(NamedTuple):
    """The ``size`` coupons of an operation from index ``first`` on: a message's worth."""

    first: int
    size: int

    def marker(self, operation: str, code_deriver: CodeDeriver) -> str:
        """The span's last code."""
        return next(code_deriver.codes(operation, self.first + self.size - 1, 1))


def split(amount: int) -> Iterator[Chunk]:
    """A creation of ``amount`` coupons, cut."""
    for first in range(0, amount, CHUNK):
        yield Chunk(first, min(CHUNK, amount - first))


def codes_of(command: CreateCoupons, code_deriver: CodeDeriver) -> list[str]:
    """The chunk's codes; the last one is its marker."""
    return list(command.codes) or list(code_deriver.codes(command.operation, command.first, command.size))


def is_of_this_secret(command: CreateCoupons, code_deriver: CodeDeriver) -> bool:
    """Whether ``codes_of`` knows the chunk's codes: they are given, or they are derived with the same secret."""
    return bool(command.codes) or command.secret_fingerprint == code_deriver.fingerprint


def is_marked(command: CreateCoupons) -> bool:
    """Whether its last code is a marker. It is not, of the first part of a chunk that a worker has cut."""
    end = command.first + command.size
    return bool(command.codes) or end % CHUNK == 0 or end == command.amount
