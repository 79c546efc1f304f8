"""The domain: coupons, commands, and the one function that takes a coupon from state to state.

Pure: no I/O and no clock. Instants are milliseconds since the epoch in UTC; days are ISO strings
(``2026-11-22``) in the configured time zone, which compare as they read.
"""

from enum import StrEnum
from typing import NamedTuple, NewType

from coupon.domain.errors import Refused

Day = NewType("Day", str)

CHUNK = 500
"""The most coupons that a message creates. The markers' places follow from it: part of the protocol, no setting."""
HISTORY_MAX = 100
"""How many of its last commands a coupon remembers: the horizon within which a redelivery is recognised."""
REJECTIONS_MAX = 200
"""How many of its last rejections a coupon remembers."""
WHOLE = 0
"""The ``batch`` of an imported chunk's marker whose operation created every coupon of the chunk."""
ROUND = 2**20
"""A chain of commands that begins from the store, not from the cache, begins at the next multiple of this number."""
IMPORT = "coupon import"
"""The actor of coupons that were imported. No caller of the HTTP interface can have that name."""
KEY_LENGTH = 12
"""So many letters of an operation come from the caller and the ``Idempotency-Key`` alone, the others from all."""


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
    # After acceptance, by the worker only:
    RIVAL_WON = "RIVAL_WON"
    PREDECESSOR_LOST = "PREDECESSOR_LOST"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"


class HistoryEntry(NamedTuple):
    """One command of a coupon's history, as it was applied. ``number`` is the command's; 0 is of a coupon that was
    written before commands had one, when it was the version that the command made."""

    operation: str
    kind: Kind
    at: int
    user_id: str | None
    actor: str
    number: int = 0


class Rejection(NamedTuple):
    """One attempt that was accepted ``at``, to be built on ``version``, and then lost. ``number``: see HistoryEntry."""

    operation: str
    version: int
    reason: Reason
    at: int
    number: int = 0


class Loser(NamedTuple):
    """One attempt on a coupon that was not applied as itself, as it is written to the queue. Without a ``reason``
    another attempt of its operation was applied; else the fields are those of its Rejection."""

    code: str
    operation: str
    version: int
    at: int
    reason: Reason | None
    number: int


class Coupon(NamedTuple):
    """A coupon as it is after ``version`` commands.

    ``revision`` counts the writes to the store, one for several commands and rejections too: the store's condition.
    ``batch`` is the number of coupons that were created by the same operation; of an import's marker it may be WHOLE.
    ``settled`` is the highest number of a command that was applied or rejected: what has no higher one is settled.

    A new field is the last one, and has a default: coupons that earlier versions wrote have it.
    """

    code: str
    valid_from: Day
    expire_at: Day
    created_at: int
    modified_at: int
    batch: int
    user_id: str | None
    issued_at: int | None
    used_at: int | None
    version: int
    revision: int
    history: tuple[HistoryEntry, ...]
    rejections: tuple[Rejection, ...] = ()
    settled: int = 1

    @property
    def issued(self) -> bool:
        return self.user_id is not None

    @property
    def used(self) -> bool:
        return self.used_at is not None

    @property
    def last_operation(self) -> str:
        """The operation that made the coupon what it is: what the next command builds on."""
        return self.history[-1].operation

    @property
    def created_by(self) -> str | None:
        """The operation that created the coupon; None when the history does not reach there."""
        born = self.entry_at(1)
        return born.operation if born else None

    def entry(self, operation: str) -> HistoryEntry | None:
        """What the history says of the operation, or None."""
        return next((entry for entry in self.history if entry.operation == operation), None)

    def entry_at(self, version: int) -> HistoryEntry | None:
        """What made the version, or None when the history does not reach there."""
        place = version - 1 - (self.version - len(self.history))
        return self.history[place] if 0 <= place < len(self.history) else None

    def number_at(self, version: int) -> int:
        """The number of the command that made the version, which the history reaches."""
        entry = self.entry_at(version)
        return (entry.number if entry else 0) or version

    def rejection(self, operation: str, number: int) -> Rejection | None:
        """What is recorded of the rejection of the operation's attempt with that number; or None."""
        return next((r for r in self.rejections if r.operation == operation and number_of(r) == number), None)

    def same_key(self, operation: str) -> HistoryEntry | None:
        """What the history says of an operation with the same ``Idempotency-Key``, this one or another; or None."""
        key = operation[:KEY_LENGTH]
        return next((entry for entry in self.history if entry.operation[:KEY_LENGTH] == key), None)

    def next_number(self, *, fresh: bool) -> int:
        """The number of a command that is built on this coupon: beyond all that was settled. ``fresh``: the coupon
        comes from the store, so the command begins a chain. Its numbers are beyond those of any chain that began from
        an earlier state of the store, and whose commands may still be on their way."""
        return (self.settled // ROUND + self.version + 1) * ROUND if fresh else self.settled + 1


def begins_a_chain(coupon: Coupon) -> bool:
    """Whether the coupon's last command was built on the coupon as the store had it: see ``Coupon.next_number``."""
    return coupon.history[-1].number % ROUND == 0


def number_of(rejection: Rejection) -> int:
    """The number of the attempt that was rejected."""
    return rejection.number or rejection.version + 1


class ChangeCoupon(NamedTuple):
    """A change of one coupon, built on what ``previous`` (of number ``previous_number``) made of it:
    ``previous_version``.

    ``number`` is higher than those of all commands that it is built on: with the operation it names this attempt, and
    with the coupon's ``settled`` it tells whether the attempt was settled. An operation that lost may be sent again:
    that is another attempt.

    Time was decided once, at acceptance: ``accepted_at`` and the ``day`` that it was then. Not ``reserved`` is what was
    accepted without the cache, which may hold the coupon as it was before.
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
        batch=command.amount,
        user_id=None,
        issued_at=None,
        used_at=None,
        version=1,
        revision=1,
        history=(born,),
    )


def transition(coupon: Coupon, command: ChangeCoupon) -> Coupon:
    """The coupon after the command; raises Refused. The web side and the worker both decide with it."""
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
