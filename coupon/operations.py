"""The address of an accepted operation, and what became of it: accepted, applied or rejected, from the store alone.

An address carries all that is needed to answer (the attempt's predecessor and coupon, or a creation's amount), and a
signature, so that nobody gets an answer for an operation that was never accepted.
"""

from enum import StrEnum
from typing import NamedTuple

from coupon.codes import Mint
from coupon.creation import missing
from coupon.model import Attempt, Coupon, Reason
from coupon.ports.store import Store
from coupon.protocol import Found, Standing, find


class Status(StrEnum):
    ACCEPTED = "accepted"
    APPLIED = "applied"
    REJECTED = "rejected"


class UnknownAddress(Exception):
    """Not an address that this service has given."""


class Forgotten(Exception):
    """The coupon has seen so many commands since that it no longer remembers this one: it was settled long ago."""


class ChangeAddress(NamedTuple):
    """One attempt to change one coupon."""

    attempt: Attempt
    code: str

    @property
    def operation(self) -> str:
        return self.attempt.operation


class CreationAddress(NamedTuple):
    operation: str
    amount: int


class Outcome(NamedTuple):
    """``created`` counts the coupons of complete chunks of a creation, None for other operations. ``coupon`` is, with a
    ``reason``, the one that the store has now."""

    status: Status
    reason: Reason | None = None
    created: int | None = None
    coupon: Coupon | None = None


class Operations:
    """Gives addresses and answers for them."""

    def __init__(self, mint: Mint, store: Store) -> None:
        self._mint, self._store = mint, store

    def address(self, address: ChangeAddress | CreationAddress) -> str:
        """The opaque form of the address: what ``parse`` takes."""
        if isinstance(address, ChangeAddress):
            operation, previous, version, previous_at, at = address.attempt
            text = f"{operation}-{previous}-{version}-{previous_at}-{at}-{address.code}"
        else:
            text = f"{address.operation}-{address.amount}"
        return f"{text}-{self._mint.sign(text)}"

    def parse(self, text: str) -> ChangeAddress | CreationAddress:
        """Raises UnknownAddress."""
        body, _, signature = text.rpartition("-")
        if not body or signature != self._mint.sign(body):
            raise UnknownAddress(text)
        match body.split("-"):
            case [operation, amount]:
                return CreationAddress(operation, int(amount))
            case [operation, previous, *numbers, code] if len(numbers) == 3:
                return ChangeAddress(Attempt(operation, previous, *map(int, numbers)), code)
        raise UnknownAddress(text)

    def outcome(self, address: ChangeAddress | CreationAddress) -> Outcome:
        """Raises Forgotten."""
        if isinstance(address, CreationAddress):
            return self._creation(address)
        return self._change(address)

    def _change(self, address: ChangeAddress) -> Outcome:
        coupon = self._store.get_many([address.code]).get(address.code)
        found = Found(Standing.EARLY) if coupon is None else find(coupon, address.attempt)
        match found.standing:
            case Standing.APPLIED:
                return Outcome(Status.APPLIED)
            case Standing.REJECTED | Standing.LOST:
                return Outcome(Status.REJECTED, found.reason, coupon=coupon)
            case Standing.FORGOTTEN:
                raise Forgotten(address.code)
        return Outcome(Status.ACCEPTED)

    def _creation(self, address: CreationAddress) -> Outcome:
        absent = sum(span.size for span in missing(address.operation, address.amount, self._mint, self._store))
        status = Status.ACCEPTED if absent else Status.APPLIED
        return Outcome(status, created=address.amount - absent)
