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
"""Most members of a group."""
GROUP_BYTES = 2_500_000
"""Most bytes of a group: of its records' bodies, and of its coupons as ``encode_coupon`` writes them."""
KEY_BYTES, BODY_BYTES = 500, 300_000
"""Most bytes of a record's key and body, in UTF-8."""
_KIND = re.compile(r"(?!coupon\Z)[a-z][a-z-]{0,30}\Z")


class Page(NamedTuple):
    """Some of a scan's coupons, and the cursor for the next ones; None when these were the last. ``unreadable`` has the
    rows among them that cannot be decoded as coupons: code to reason."""

    coupons: list[Coupon]
    next: str | None
    unreadable: Mapping[str, str] = NONE


class Record(NamedTuple):
    """A record of any other kind than coupons, such as a campaign or a block of its tickets.

    ``kind`` is 1 to 31 lower-case letters and dashes, and not ``coupon``. ``key`` is any text of 1 to ``KEY_BYTES``
    bytes, ``body`` any text of up to ``BODY_BYTES``, both without NUL characters. ``revision`` counts the writes, from
    1 on.
    """

    kind: str
    key: str
    revision: int
    body: str


class RecordPage(NamedTuple):
    """Some of a scan's records, and the cursor for the next ones; None when these were the last. ``unreadable`` has the
    rows among them that cannot be decoded as records: key to reason."""

    records: list[Record]
    next: str | None
    unreadable: Mapping[str, str] = NONE


Group = Sequence[Coupon | Record]
"""Coupons and records that are written together or not at all."""


class Store(Backend):
    """Strongly consistent: a read sees every write that had returned when the read began."""

    @abstractmethod
    def create(self) -> None:
        """Make the missing tables, and migrate those of earlier versions. Each migration is atomic, also when the
        process is killed. Idempotent. Several processes may do it at once."""

    @abstractmethod
    def get_many(self, codes: Iterable[str]) -> dict[str, Coupon]:
        """The coupons that exist, by code. Any number of codes, duplicates too; not one snapshot across coupons.
        Raises Unreadable, with the readable ones, when some cannot be read."""

    @abstractmethod
    def save_many(self, coupons: Sequence[Coupon]) -> set[str]:
        """Write each coupon only if the stored one's revision is ``coupon.revision - 1``; with revision 1, only if
        there is none. Returns the codes whose condition failed: those are unchanged, the rest are written. One that
        this call has written is never among them, also when a reply was lost and the driver sent it again.

        Each coupon is atomic; a batch is not. At most one coupon a code. One round trip for about a hundred.
        Raises BackendUnavailable: any of them may have been written or not. Saving again is safe: a coupon that was
        written the first time then fails its condition, and is stored as given."""

    @abstractmethod
    def scan(self, limit: int, cursor: str | None = None) -> Page:
        """Up to ``limit`` coupons in no order, beginning behind ``cursor``. A page may be short, even empty, and still
        have a next one.

        A walk over all pages returns each row that existed all the time exactly once, readable or not. A cursor is
        good in any process, at any time and with any limit, for rows of the same kind.
        Raises BackendRejected for a text that cannot be a cursor."""

    @abstractmethod
    def get_records(self, kind: str, keys: Iterable[str]) -> dict[str, Record]:
        """The records of that kind that exist, by key. Any number of keys, duplicates too; not one snapshot across
        records. Raises BackendRejected, with the key, when one of them cannot be decoded as a record."""

    @abstractmethod
    def save_groups(self, groups: Sequence[Group]) -> set[int]:
        """Write each group only if each member's stored revision is its ``revision - 1``; with revision 1, only if
        there is none. Returns the indexes of the groups of which a condition failed: nothing of those is written. One
        that this call has written is never among them, as in ``save_many``.

        Each group is atomic by itself. A record alone is a group of one. At most one round trip a group.
        Raises BackendRejected, and writes nothing, for groups that ``check_groups`` refuses.
        Raises BackendUnavailable: each group may have been written, or not. Saving again is safe: a group that was
        written the first time then fails its condition, and its members are stored as given."""

    @abstractmethod
    def scan_records(self, kind: str, limit: int, cursor: str | None = None) -> RecordPage:
        """As ``scan``, of the records of that kind. Its cost does not depend on records of other kinds."""


def check_groups(groups: Sequence[Group]) -> None:
    """Raise BackendRejected for an empty group, one beyond GROUP_MAX or GROUP_BYTES, a member that is twice in the
    call, and an invalid record. A coupon's revision is not checked: one below 1 fails its condition."""
    members = [member for group in groups for member in group]
    if len({_identity(member) for member in members}) < len(members):
        raise BackendRejected("a coupon or record is twice among the groups")
    for group in groups:
        if not 1 <= len(group) <= GROUP_MAX:
            raise BackendRejected(f"a group of {len(group)} members, which may have 1 to {GROUP_MAX}")
        if (size_bytes := sum(map(_size_bytes, group))) > GROUP_BYTES:
            raise BackendRejected(f"a group of {size_bytes:,} bytes, which may have {GROUP_BYTES:,}")


def check_kind(kind: str) -> None:
    """Raise BackendRejected unless it is a valid kind of records."""
    if not _KIND.match(kind):
        raise BackendRejected(f"{kind!r:.50} is not a kind of records")


def is_key(key: str) -> bool:
    """Whether it is a valid key of a record."""
    return 1 <= _utf8_bytes(key) <= KEY_BYTES


def _identity(member: Coupon | Record) -> tuple[str, str]:
    return ("coupon", member.code) if isinstance(member, Coupon) else (member.kind, member.key)


def _size_bytes(member: Coupon | Record) -> int:
    """Of the encoded member. Raises BackendRejected for an invalid record."""
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
    """-1 for what not every database can store: half a character (a lone surrogate), and NUL."""
    try:
        return -1 if "\0" in text else len(text.encode())
    except UnicodeEncodeError:
        return -1
