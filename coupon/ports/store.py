"""The store: the truth. Coupons by their code, and records of other kinds by kind and key (decisions 1 and 22)."""

import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from coupon.domain.errors import BackendRejected
from coupon.domain.model import Coupon
from coupon.domain.serialization import encode_coupon
from coupon.ports.backend import Backend

NONE: Mapping[str, str] = MappingProxyType({})
GROUP_MAX = 100
"""Members of a group."""
GROUP_BYTES = 2_500_000
"""Bytes of a group: of its records' bodies, and of its coupons as ``encode_coupon`` writes them."""
KEY_BYTES, BODY_BYTES = 500, 300_000
"""Bytes of a record's key and body, in UTF-8."""
_KIND = re.compile(r"(?!coupon\Z)[a-z][a-z-]{0,30}\Z")


def fault(code: str, reason: str) -> str:
    """The sentence that tells of a coupon which cannot be read."""
    return f"what is stored of {code} is no coupon: {reason}"


class Unreadable(BackendRejected):
    """What is stored under these codes is no coupon: ``reasons`` says why, by code. ``found`` are all others that were
    asked for. It stays so until an operator mends the row."""

    def __init__(self, reasons: Mapping[str, str], found: Mapping[str, Coupon]) -> None:
        super().__init__("; ".join(fault(code, why) for code, why in reasons.items()))
        self.reasons, self.found = dict(reasons), dict(found)


class Page(NamedTuple):
    """Some of a scan's coupons and the cursor for the next ones; None when these were the last. ``unreadable``: what is
    stored there too and is no coupon, by its code, with the reason."""

    coupons: list[Coupon]
    next: str | None
    unreadable: Mapping[str, str] = NONE


class Record(NamedTuple):
    """A record of any other kind than coupons, such as a campaign or a block of its tickets.

    ``kind`` is 1 to 31 lower-case letters and dashes, and not ``coupon``. ``key`` is any text of 1 to ``KEY_BYTES``
    bytes, ``body`` any text of up to ``BODY_BYTES``. ``revision`` counts the writes, from 1 on.
    """

    kind: str
    key: str
    revision: int
    body: str


class RecordPage(NamedTuple):
    """Some of a scan's records and the cursor for the next ones; None when these were the last. ``unreadable``: what is
    stored there too and is no record, by its key, with the reason."""

    records: list[Record]
    next: str | None
    unreadable: Mapping[str, str] = NONE


Group = Sequence[Coupon | Record]
"""Coupons and records that are written together or not at all."""


class Store(Backend):
    """Reads see every write that was answered before them (strongly consistent)."""

    @abstractmethod
    def create(self) -> None:
        """Make the tables that are missing, and bring those of earlier versions up to date, each in one step. A process
        that is killed leaves the earlier or the present form. Idempotent."""

    @abstractmethod
    def get_many(self, codes: Iterable[str]) -> dict[str, Coupon]:
        """The coupons that exist, by code. Any number of codes, duplicates too; not one snapshot across coupons.
        Raises Unreadable, with all others, when some exist and cannot be read."""

    @abstractmethod
    def save_many(self, coupons: Sequence[Coupon]) -> set[str]:
        """Write each coupon only if the stored one's revision is ``coupon.revision - 1``; with revision 1, only if
        there is none. Returns the codes whose condition failed: those are unchanged, all others are written.

        Each coupon is atomic; a batch is not. At most one coupon a code. One round trip for about a hundred.
        Raises BackendUnavailable: any of them may have been written or not. Saving again is safe: what was
        written the first time is then among the failed conditions, with this very coupon stored."""

    @abstractmethod
    def scan(self, limit: int, cursor: str | None = None) -> Page:
        """Up to ``limit`` coupons in no order, beginning behind ``cursor``. Walking the cursors gives every coupon that
        was there all the time exactly once, also what cannot be read. A page may be short, even empty, with more to
        come. Raises BackendRejected for a cursor that no scan gave."""

    @abstractmethod
    def get_records(self, kind: str, keys: Iterable[str]) -> dict[str, Record]:
        """The records of that kind that exist, by key. Any number of keys, duplicates too; not one snapshot across
        records. Raises BackendRejected, with the key, when what is stored under one of them is no record."""

    @abstractmethod
    def save_groups(self, groups: Sequence[Group]) -> set[int]:
        """Write each group whole, only if each member's stored revision is its ``revision - 1``; with revision 1, only
        if there is none. Returns the indexes of the groups of which a condition failed: nothing of those is written,
        all others are.

        Each group is atomic, and independent of the others. A record alone is a group of one. One round trip a group,
        several at a time. Raises BackendRejected, and writes nothing, for what ``check_groups`` refuses.
        Raises BackendUnavailable: each of them may have been written whole, or not. Saving again is safe: what was
        written the first time is then among the failed ones, with these very members stored."""

    @abstractmethod
    def scan_records(self, kind: str, limit: int, cursor: str | None = None) -> RecordPage:
        """As ``scan``, of the records of that kind. Costs what these are, however many there are of other kinds."""


def check_groups(groups: Sequence[Group]) -> None:
    """Raise BackendRejected for an empty group, one beyond GROUP_MAX or GROUP_BYTES, a member that is in the call
    twice, and a record that is none."""
    members = [member for group in groups for member in group]
    if len({_identity(member) for member in members}) < len(members):
        raise BackendRejected("a coupon or record is twice among the groups")
    for group in groups:
        if not 1 <= len(group) <= GROUP_MAX:
            raise BackendRejected(f"a group of {len(group)} members, which may have 1 to {GROUP_MAX}")
        if (size_bytes := sum(map(_size_bytes, group))) > GROUP_BYTES:
            raise BackendRejected(f"a group of {size_bytes:,} bytes, which may have {GROUP_BYTES:,}")


def check_kind(kind: str) -> None:
    """Raise BackendRejected unless records may be of that kind."""
    if not _KIND.match(kind):
        raise BackendRejected(f"{kind!r:.50} is not a kind of records")


def is_key(key: str) -> bool:
    """Whether a record may have that key."""
    return 1 <= _utf8_bytes(key) <= KEY_BYTES


def _identity(member: Coupon | Record) -> tuple[str, str]:
    return ("coupon", member.code) if isinstance(member, Coupon) else (member.kind, member.key)


def _size_bytes(member: Coupon | Record) -> int:
    """Raises BackendRejected for a record that is none."""
    if isinstance(member, Coupon):
        return len(encode_coupon(member))
    check_kind(member.kind)
    if not is_key(member.key):
        raise BackendRejected(f"a key of {_utf8_bytes(member.key)} bytes, which may have 1 to {KEY_BYTES}")
    if member.revision < 1:
        raise BackendRejected(f"the revision {member.revision} of {member.kind} {member.key!r}")
    size_bytes = _utf8_bytes(member.body)
    if not 0 <= size_bytes <= BODY_BYTES:
        raise BackendRejected(f"{member.kind} {member.key!r} has {size_bytes:,} bytes, and may have {BODY_BYTES:,}")
    return size_bytes


def _utf8_bytes(text: str) -> int:
    """-1 for half a character, which nobody can store."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return -1
