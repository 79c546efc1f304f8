"""What clients saw of a run, one record a request, and all the other evidence that a verdict needs.

The same records come from simulated clients and from real ones over HTTP. They are lines of JSON in a file, so that a
run that failed can be looked at, and judged again, later.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TextIO

from coupon.domain.model import REJECTIONS_MAX, ChangeCoupon, Coupon, CreateCoupons, Day
from coupon.domain.serialization import Document

FIRST, LAST = Day("2020-01-01"), Day("2099-12-31")
"""The days of every coupon of a run, but for a key that is used for other days: no command is refused for its day."""


class Request(NamedTuple):
    """One HTTP request for a command; times are seconds on one clock for all clients of a run.

    ``status`` is that of the answer: 202 (or 200, with ``Prefer: wait``) accepted, 409 refused, 404 no such coupon.
    With a 503 it was not accepted, or nobody knows. It is 0 when there was no answer: the command may have been
    accepted at any time since.
    An answer to ``Prefer: wait`` that tells of a rejection is written down as what it means: a 202, and an Observed.
    """

    client: str
    kind: str
    key: str
    """The ``Idempotency-Key``. With the caller it makes the operation; the caller of all is ``CALLER``."""
    code: str
    """In its stored form; empty for a creation."""
    user_id: str | None
    amount: int
    """Of a creation, else 0."""
    sent: float
    ended: float
    status: int
    reason: str = ""
    """The problem's ``code`` when it was refused."""
    address: str = ""
    """The last part of the ``Location`` when it was accepted."""
    codes: tuple[str, ...] = ()
    """Those that the answer to a creation told, in their stored form."""
    expire_at: str = LAST
    """Of a creation: what was asked for."""

    @property
    def accepted(self) -> bool:
        return self.status in (200, 202)

    @property
    def refused(self) -> bool:
        """Told that it was not taken, and will not be."""
        return 400 <= self.status < 500

    @property
    def words(self) -> "Words":
        expire_at = self.expire_at if self.kind == "create" else ""
        return Words(self.kind, self.code, self.user_id, self.amount, expire_at)


class Words(NamedTuple):
    """What a request asks for, whatever its key: another request has other words."""

    kind: str
    code: str
    user_id: str | None
    amount: int
    expire_at: str
    """Empty but for a creation."""


class Observed(NamedTuple):
    """What an operation's address answered: ``status`` accepted, applied, rejected (with ``reason``) or forgotten."""

    address: str
    sent: float
    ended: float
    status: str
    reason: str = ""


class Read(NamedTuple):
    """A coupon as ``GET /v1/coupons/{code}`` told it: its version and the operations of its history."""

    code: str
    sent: float
    ended: float
    version: int
    operations: tuple[str, ...]


CALLER = "proof"
"""The value of ``X-Caller`` in every request of a run."""


@dataclass
class Evidence:
    """The independent records of a run that has come to rest."""

    secret: str
    requests: list[Request] = field(default_factory=list)
    observed: list[Observed] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    commands: list[ChangeCoupon | CreateCoupons] = field(default_factory=list)
    """The queue's log: every message of the command topics, in order a partition."""
    dead_letters: list[str] = field(default_factory=list)
    """The reasons of the dead letters, but for those of messages that were planted to become some."""
    coupons: dict[str, Coupon] = field(default_factory=dict)
    """The store."""
    documents: dict[str, Document] = field(default_factory=dict)
    """The search index."""
    cached: dict[str, Coupon] = field(default_factory=dict)
    """What the cache holds as confirmed."""
    landed: dict[ChangeCoupon | CreateCoupons, float] = field(default_factory=dict)
    """When each message first reached the queue; empty when nobody saw that."""
    applied: dict[str, float] = field(default_factory=dict)
    """When the store first had each operation; empty when nobody saw that."""
    owed_to_the_cache: set[str] = field(default_factory=set)
    """The coupons at whose entries a worker could not look when it had to."""
    well: bool = False
    """Whether nothing was lost from the cache, and everybody could always reach it."""
    holds: float = float("inf")
    """For how long a reservation holds its place, in the unit of the times."""
    remembered: int = REJECTIONS_MAX
    """How many of its rejections a coupon remembers."""
    ahead: set[tuple[str, int]] | None = None
    """The attempts (operation, number) that web processes applied; None when nobody saw that."""
    ordered: bool = True
    """Whether the queue keeps the order of a coupon's commands of all kinds: the layout with one topic for them."""


def write(file: TextIO, record: Request | Observed | Read) -> None:
    """One line."""
    file.write(json.dumps([type(record).__name__, *record]) + "\n")


def read(lines: Iterable[str]) -> Iterator[Request | Observed | Read]:
    """The records of such a file."""
    for line in lines:
        name, *values = json.loads(line)
        match name:
            case "Request":
                *words, codes, expire_at = values
                yield Request(*words, tuple(codes), expire_at)
            case "Observed":
                yield Observed._make(values)
            case "Read":
                yield Read._make([*values[:-1], tuple(values[-1])])
