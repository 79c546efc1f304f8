"""The store in this process's memory: for tests, and for trying things out."""

import threading
from collections.abc import Iterable, Sequence
from typing import Self

from coupon.domain.errors import BackendRejected, BackendUnavailable, Unreadable
from coupon.domain.model import Coupon
from coupon.ports.store import Group, Page, Record, RecordPage, Store, check_groups, check_kind
from coupon.ports.url import Url


class MemoryStore(Store):
    """Dictionaries under a lock. Nothing is ever deleted, so a scan has the order of creation, and its cursor is an
    index."""

    def __init__(self) -> None:
        self._coupons: dict[str, Coupon] = {}
        self._order: list[str] = []
        self._unreadable: dict[str, str] = {}
        self._records: dict[str, dict[str, Record]] = {}
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def from_url(cls, url: Url) -> Self:
        return cls(**url.options())

    def ping(self) -> None:
        self._check_open()

    def close(self) -> None:
        self._closed = True

    def create(self) -> None:
        self._check_open()

    def get_many(self, codes: Iterable[str]) -> dict[str, Coupon]:
        self._check_open()
        listed = list(codes)  # outside the lock: they may come from a scan of this store
        with self._lock:
            coupons = {code: self._coupons[code] for code in listed if code in self._coupons}
            reasons = {code: self._unreadable[code] for code in coupons if code in self._unreadable}
        if reasons:
            raise Unreadable(reasons, {code: coupon for code, coupon in coupons.items() if code not in reasons})
        return coupons

    def save_many(self, coupons: Sequence[Coupon]) -> set[str]:
        self._check_open()
        with self._lock:
            return {coupon.code for coupon in coupons if not self._save(coupon)}

    def scan(self, limit: int, cursor: str | None = None) -> Page:
        self._check_open()
        with self._lock:
            first = _index_of(cursor, len(self._order))
            codes = self._order[first : first + limit]
            more = first + len(codes) < len(self._order)
            unreadable = {code: self._unreadable[code] for code in codes if code in self._unreadable}
            coupons = [self._coupons[code] for code in codes if code not in unreadable]
            return Page(coupons, str(first + len(codes)) if more else None, unreadable)

    def get_records(self, kind: str, keys: Iterable[str]) -> dict[str, Record]:
        self._check_open()
        check_kind(kind)
        listed = list(keys)
        with self._lock:
            records = self._records.get(kind, {})
            return {key: records[key] for key in listed if key in records}

    def save_groups(self, groups: Sequence[Group]) -> set[int]:
        self._check_open()
        check_groups(groups)
        with self._lock:
            return {index for index, group in enumerate(groups) if not self._save_whole(group)}

    def scan_records(self, kind: str, limit: int, cursor: str | None = None) -> RecordPage:
        self._check_open()
        check_kind(kind)
        with self._lock:
            records = list(self._records.get(kind, {}).values())
        first = _index_of(cursor, len(records))
        page = records[first : first + limit]
        more = first + len(page) < len(records)
        return RecordPage(page, str(first + len(page)) if more else None)

    def spoil(self, code: str) -> None:
        """Make the coupon unreadable: for tests, as nobody else can write into this store."""
        with self._lock:
            self._unreadable[code] = "spoiled"

    def mend(self, code: str) -> None:
        """Make the coupon readable again."""
        with self._lock:
            del self._unreadable[code]

    def _save(self, coupon: Coupon) -> bool:
        stored = self._coupons.get(coupon.code)
        if (stored.revision if stored else 0) != coupon.revision - 1:
            return False
        if stored is None:
            self._order.append(coupon.code)
        self._coupons[coupon.code] = coupon
        return True

    def _save_whole(self, group: Group) -> bool:
        if any(self._revision_of(member) != member.revision - 1 for member in group):
            return False
        for member in group:
            if isinstance(member, Coupon):
                self._save(member)
            else:
                self._records.setdefault(member.kind, {})[member.key] = member
        return True

    def _revision_of(self, member: Coupon | Record) -> int:
        """The stored revision; 0 when there is none."""
        if isinstance(member, Coupon):
            stored: Coupon | Record | None = self._coupons.get(member.code)
        else:
            stored = self._records.get(member.kind, {}).get(member.key)
        return stored.revision if stored else 0

    def _check_open(self) -> None:
        if self._closed:
            raise BackendUnavailable("the store in memory was closed")


def _index_of(cursor: str | None, length: int) -> int:
    if cursor is None:
        return 0
    if not cursor.isdecimal() or int(cursor) > length:
        raise BackendRejected(f"{cursor!r} is not a cursor of this store")
    return int(cursor)
