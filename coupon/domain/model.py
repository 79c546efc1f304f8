"""The domain: coupons, commands, and the one function that takes a coupon from state to state.

Pure: no I/O and no clock. Instants are milliseconds since the epoch in UTC; days are ISO strings
(``2026-11-22``) in the configured time zone, which compare as they read.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, NewType

from coupon.domain.errors import Refused

Day = NewType("Day", str)

CHUNK = 500
"""The most coupons that a message creates. The markers' places follow from it: part of the protocol, no setting."""
HISTORY_MAX = 100
"""Commands in a coupon's history, the last ones: so far back is a retry of a command recognised."""
REJECTIONS_MAX = 200
"""Rejections that a coupon remembers, the last ones."""
ROUND = 2**20
"""The first command of a chain, which is built on the coupon in the store, has a multiple of this as its number."""
IMPORT = "coupon import"
"""The actor of coupons that were imported. No caller of the HTTP interface can have that name."""
KEY_LENGTH = 12
"""Letters of an operation that follow from the caller and the ``Idempotency-Key`` alone; the rest, from all of it."""


class Kind(StrEnum):
    """What a command does."""

    CREATE = "create"
    ISSUE = "issue"
    USE = "use"
    CANCEL = "cancel"
    CANCEL_USE = "cancel-use"


class Reason(StrEnum):
    """Why a command is refused: the stable ``code`` that callers see."""

    NOT_FOUND = "NOT_FOUND"
    ALREADY_USED = "ALREADY_USED"
    ALREADY_ISSUED = "ALREADY_ISSUED"
    ALREADY_EXPIRED = "ALREADY_EXPIRED"
    EXPIRED = "EXPIRED"
    NOT_STARTED = "NOT_STARTED"
    NOT_ISSUED = "NOT_ISSUED"
    NOT_HOLDER = "NOT_HOLDER"
    NOT_USED = "NOT_USED"
    # By the worker only, after acceptance:
    RIVAL_WON = "RIVAL_WON"
    PREDECESSOR_LOST = "PREDECESSOR_LOST"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"


class HistoryEntry(NamedTuple):
    """One command of a coupon's history, as it was applied. ``at`` is in milliseconds.

    ``number`` is the command's. 0 means that the entry is older than numbers: it is the version that the command made.
    """

    operation: str
    kind: Kind
    at: int
    user_id: str | None
    actor: str
    number: int = 0


class Rejection(NamedTuple):
    """One attempt that was accepted ``at`` (milliseconds), was built on ``version``, and lost.

    ``number`` is the attempt's. 0 means that the rejection is older than numbers: see ``number_of``."""

    operation: str
    version: int
    reason: Reason
    at: int
    number: int = 0


class Loser(NamedTuple):
    """A lost attempt, as it is written to the queue: its coupon's code and the fields of its Rejection.

    Without a ``reason`` another attempt of its operation was applied."""

    code: str
    operation: str
    version: int
    at: int
    reason: Reason | None
    number: int


class Coupon(NamedTuple):
    """A coupon after ``version`` commands. Instants are in milliseconds.

    ``revision`` counts the writes to the store, one for several commands and rejections too: the store's condition.
    ``creation_size`` is the number of coupons that were created by the same operation; 0 where it is not known.
    ``settled`` is the highest number of a command that was applied or rejected: every number up to it is settled.
    ``chunk_complete`` has an imported chunk's marker whose operation created every coupon of the chunk.
    ``ahead`` counts the commands that web processes have applied since a worker last applied one.

    A new field is the last one, and has a default: coupons that earlier versions wrote have it.
    """

    code: str
    valid_from: Day
    expire_at: Day
    created_at: int
    modified_at: int
    creation_size: int
    user_id: str | None
    issued_at: int | None
    used_at: int | None
    version: int
    revision: int
    history: tuple[HistoryEntry, ...]
    rejections: tuple[Rejection, ...] = ()
    settled: int = 1
    chunk_complete: bool = False
    ahead: int = 0

    @property
    def issued(self) -> bool:
        return self.user_id is not None

    @property
    def used(self) -> bool:
        return self.used_at is not None

    @property
    def last_operation(self) -> str:
        """The operation of the last command: the next command builds on it."""
        return self.history[-1].operation

    @property
    def created_by(self) -> str | None:
        """The operation that created the coupon; None when the history does not reach there."""
        born = self.entry_at(1)
        return born.operation if born else None

    def entry(self, operation: str) -> HistoryEntry | None:
        """The history's entry of the operation, or None."""
        return next((entry for entry in self.history if entry.operation == operation), None)

    def entry_at(self, version: int) -> HistoryEntry | None:
        """The entry of the command that made the version; None when the history does not reach there."""
        index = version - 1 - (self.version - len(self.history))
        return self.history[index] if 0 <= index < len(self.history) else None

    def number_at(self, version: int) -> int:
        """The number of the command that made the version, which the history reaches."""
        entry = self.entry_at(version)
        return (entry.number if entry else 0) or version

    def rejection(self, operation: str, number: int) -> Rejection | None:
        """The rejection of the operation's attempt with that number, or None."""
        return next((r for r in self.rejections if r.operation == operation and number_of(r) == number), None)

    def same_key(self, operation: str) -> HistoryEntry | None:
        """The first entry of an operation with the same ``Idempotency-Key``, be it this one or another; or None."""
        key = operation[:KEY_LENGTH]
        return next((entry for entry in self.history if entry.operation[:KEY_LENGTH] == key), None)

    def next_number(self, *, fresh: bool) -> int:
        """The number of a command that is built on this coupon: higher than ``settled``.

        ``fresh``: the coupon comes from the store, so the command begins a chain. Commands of a chain that began from
        an earlier state of the store may still be in the queue: their numbers are lower.
        """
        return (self.settled // ROUND + self.version + 1) * ROUND if fresh else self.settled + 1


def begins_a_chain(coupon: Coupon) -> bool:
    """Whether the last command was built on the coupon as the store had it: see ``Coupon.next_number``."""
    return coupon.history[-1].number % ROUND == 0


def number_of(rejection: Rejection) -> int:
    """The number of the attempt that was rejected."""
    return rejection.number or rejection.version + 1


class ChangeCoupon(NamedTuple):
    """An accepted change of one coupon.

    It builds on ``previous``: the operation whose command, of number ``previous_number``, made ``previous_version``.

    ``number`` is higher than those of all commands that it builds on. The operation and the number identify this
    attempt. It is settled when the coupon's ``settled`` is not lower. An operation that lost may be sent again: that is
    another attempt.

    ``accepted_at`` is in milliseconds, and ``day`` is the day that it was then. ``reserved`` is False when the command
    was accepted without the cache: the entry there may be older.

    ``traceparent`` is that of the request (W3C Trace Context), for the log; empty without one.
    """

    kind: Kind
    operation: str
    code: str
    previous: str
    previous_version: int
    accepted_at: int
    day: Day
    user_id: str | None
    actor: str
    reserved: bool
    number: int
    previous_number: int
    traceparent: str = ""


class CreateCoupons(NamedTuple):
    """Some of an operation's coupons: either the ``size`` codes from index ``first`` on, which are derived
    from the operation, or the given ``codes`` (an import). ``amount`` is the whole operation's number.

    Codes are derived with a secret: another secret, with another ``secret_fingerprint``, makes other codes.
    """

    operation: str
    amount: int
    first: int
    size: int
    codes: tuple[str, ...]
    secret_fingerprint: str
    valid_from: Day
    expire_at: Day
    accepted_at: int
    actor: str
    traceparent: str = ""


def create_all(command: CreateCoupons, codes: Sequence[str]) -> list[Coupon]:
    """The new coupons with these codes. They differ in nothing else, which is made once."""
    _, *others = create(command, "")
    return [Coupon._make((code, *others)) for code in codes]


def create(command: CreateCoupons, code: str) -> Coupon:
    """The new coupon with that code."""
    at = command.accepted_at
    born = HistoryEntry(command.operation, Kind.CREATE, at, None, command.actor, 1)
    return Coupon(
        code=code,
        valid_from=command.valid_from,
        expire_at=command.expire_at,
        created_at=at,
        modified_at=at,
        creation_size=command.amount,
        user_id=None,
        issued_at=None,
        used_at=None,
        version=1,
        revision=1,
        history=(born,),
    )


def transition(coupon: Coupon, command: ChangeCoupon) -> Coupon:
    """The coupon after the command; raises Refused. Acceptance and worker both decide with it."""
    ensure_allowed(coupon, command)
    user_id, issued_at, used_at = coupon.user_id, coupon.issued_at, coupon.used_at
    match command.kind:
        case Kind.ISSUE:
            user_id, issued_at = command.user_id, command.accepted_at
        case Kind.USE:
            used_at = command.accepted_at
        case Kind.CANCEL:
            user_id = issued_at = None
        case Kind.CANCEL_USE:
            used_at = None
    entry = HistoryEntry(
        command.operation, command.kind, command.accepted_at, command.user_id, command.actor, command.number
    )
    return coupon._replace(
        user_id=user_id,
        issued_at=issued_at,
        used_at=used_at,
        modified_at=command.accepted_at,
        version=coupon.version + 1,
        history=(*coupon.history, entry)[-HISTORY_MAX:],
        settled=max(coupon.settled, command.number),
    )


def ensure_allowed(coupon: Coupon, command: ChangeCoupon) -> None:
    """Raise Refused unless the coupon's state, day and holder allow the command."""
    expired = command.day > coupon.expire_at
    match command.kind:
        case Kind.ISSUE:
            _refuse_if(coupon.used, Reason.ALREADY_USED)
            _refuse_if(coupon.issued, Reason.ALREADY_ISSUED)
            _refuse_if(expired, Reason.ALREADY_EXPIRED)
        case Kind.USE:
            _refuse_if(coupon.used, Reason.ALREADY_USED)
            _refuse_if(expired, Reason.EXPIRED)
            _refuse_if(command.day < coupon.valid_from, Reason.NOT_STARTED)
            _refuse_if(not coupon.issued, Reason.NOT_ISSUED)
            _refuse_if(command.user_id not in (None, coupon.user_id), Reason.NOT_HOLDER)
        case Kind.CANCEL:
            _refuse_if(coupon.used, Reason.ALREADY_USED)
            _refuse_if(not coupon.issued, Reason.NOT_ISSUED)
            _refuse_if(expired, Reason.ALREADY_EXPIRED)
        case Kind.CANCEL_USE:
            _refuse_if(not coupon.used, Reason.NOT_USED)
            _refuse_if(expired, Reason.EXPIRED)
        case Kind.CREATE:
            raise ValueError("a creation is not a transition: see create()")


def _refuse_if(condition: bool, reason: Reason) -> None:
    if condition:
        raise Refused(reason)
