"""Chunks: the parts of a creation, each of which is one message.

A chunk is a range of indexes, and codes follow from operation and index. So a million coupons are two thousand small
messages, and no process holds a million codes.

A chunk's last code is its marker. The worker stores it after the chunk's other codes, so a stored marker means that the
chunk is complete. So the store alone shows the progress of a creation (decision 3).
"""

from collections.abc import Iterator
from typing import NamedTuple

from coupon.domain.codes import CodeDeriver
from coupon.domain.model import CHUNK, CreateCoupons


class Chunk(NamedTuple):
    """The ``size`` coupons of an operation from index ``first`` on: those of one message."""

    first: int
    size: int

    def marker(self, operation: str, code_deriver: CodeDeriver) -> str:
        """The chunk's last code."""
        return next(code_deriver.codes(operation, self.first + self.size - 1, 1))


def split(amount: int) -> Iterator[Chunk]:
    """The chunks of a creation of ``amount`` coupons, in order."""
    for first in range(0, amount, CHUNK):
        yield Chunk(first, min(CHUNK, amount - first))


def codes_of(command: CreateCoupons, code_deriver: CodeDeriver) -> list[str]:
    """The chunk's codes; the last one is its marker."""
    return list(command.codes) or list(code_deriver.codes(command.operation, command.first, command.size))


def is_of_this_secret(command: CreateCoupons, code_deriver: CodeDeriver) -> bool:
    """Whether ``codes_of`` knows the chunk's codes: they are given, or they are derived with the same secret."""
    return bool(command.codes) or command.secret_fingerprint == code_deriver.fingerprint


def is_marked(command: CreateCoupons) -> bool:
    """Whether its last code is a marker. When a worker applies a chunk in portions, only the last has the marker."""
    end = command.first + command.size
    return bool(command.codes) or end % CHUNK == 0 or end == command.amount
