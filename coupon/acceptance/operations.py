"""The id of an accepted operation, and what became of it: accepted, applied or rejected, from the store alone.

An id carries all that is needed to answer: the attempt's number and coupon, or a creation's amount. It is signed, so
that nobody gets an answer for an operation that was never accepted. Clients see this id everywhere (decision 2).
"""

import hmac
from enum import StrEnum
from typing import NamedTuple

from coupon.acceptance.creation_progress import CreationProgress
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import OutcomeExpired, UnknownAddress
from coupon.domain.model import IMPORT, Coupon, Kind, Reason
from coupon.domain.protocol import AttemptState, outcome
from coupon.ports.store import Store


class Status(StrEnum):
    ACCEPTED = "accepted"
    APPLIED = "applied"
    REJECTED = "rejected"


class ChangeRef(NamedTuple):
    """One attempt to change one coupon."""

    operation: str
    number: int
    code: str


class CreationRef(NamedTuple):
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

    def __init__(self, code_deriver: CodeDeriver, store: Store, creations: CreationProgress) -> None:
        self._code_deriver, self._store, self._creations = code_deriver, store, creations

    def address(self, address: ChangeRef | CreationRef) -> str:
        """The operation's id: what ``parse`` takes."""
        text = "-".join(map(str, address))
        return f"{text}-{self._code_deriver.sign(text)}"

    def of_entry(self, coupon: Coupon, version: int) -> str:
        """The id of the operation that made the version, which the history reaches. An import's rows have one each: the
        file was no request."""
        entry = coupon.entry_at(version)
        if entry is None:
            raise ValueError(f"{coupon.code} does not remember its version {version}")
        if entry.kind is Kind.CREATE and entry.actor != IMPORT:
            return self.address(CreationRef(entry.operation, coupon.creation_size))
        return self.address(ChangeRef(entry.operation, coupon.number_at(version), coupon.code))

    def parse(self, text: str) -> ChangeRef | CreationRef:
        """Raises UnknownAddress."""
        body, _, signature = text.rpartition("-")
        if not body or not hmac.compare_digest(
            signature.encode(errors="replace"), self._code_deriver.sign(body).encode()
        ):
            raise UnknownAddress(text)
        match body.split("-"):
            case [operation, amount]:
                return CreationRef(operation, int(amount))
            case [operation, number, code]:
                return ChangeRef(operation, int(number), code)
            case [operation, _, previous_version, _, _, code]:  # given before commands had numbers
                return ChangeRef(operation, int(previous_version) + 1, code)
        raise UnknownAddress(text)

    def outcome(self, address: ChangeRef | CreationRef) -> Outcome:
        """Raises OutcomeExpired."""
        if isinstance(address, CreationRef):
            return self._creation(address)
        return self._change(address)

    def _change(self, address: ChangeRef) -> Outcome:
        coupon = self._store.get_many([address.code]).get(address.code)
        return Outcome(Status.ACCEPTED) if coupon is None else self.outcome_in(coupon, address)

    def outcome_in(self, coupon: Coupon, address: ChangeRef) -> Outcome:
        """The outcome of an attempt, given its coupon in the store. Raises OutcomeExpired."""
        found = outcome(coupon, address.operation, address.number)
        match found.state:
            case AttemptState.APPLIED:
                return Outcome(Status.APPLIED)
            case AttemptState.REJECTED | AttemptState.SUPERSEDED:
                return Outcome(Status.REJECTED, found.reason, coupon=coupon)
            case AttemptState.BEYOND_HISTORY:
                raise OutcomeExpired(address.code)
        return Outcome(Status.ACCEPTED)

    def _creation(self, address: CreationRef) -> Outcome:
        created = self._creations.created(address.operation, address.amount)
        return Outcome(Status.APPLIED if created == address.amount else Status.ACCEPTED, created=created)
