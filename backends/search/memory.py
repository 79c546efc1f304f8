"""Search in this process's memory, for tests."""

import threading
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.domain.model import Coupon, Day
from coupon.domain.serialization import Document, document
from coupon.ports.search import Counts, Query, Rebuild, Search
from coupon.ports.url import Url


class MemorySearch(Search):
    """Needs no ``create``: it has an empty index from the beginning."""

    def __init__(self) -> None:
        self._present = _Generation()
        self._next: _Generation | None = None
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

    def index_many(self, coupons: Sequence[Coupon]) -> None:
        self._check_open()
        with self._lock:
            self._present.put_many(coupons)
            if self._next is not None:
                self._next.put_many(coupons)

    def find(self, query: Query, limit: int, after: str = "") -> list[Document]:
        self._check_open()
        with self._lock:
            return self._present.find(query, limit, after)

    def count(self) -> Counts:
        self._check_open()
        with self._lock:
            return self._present.count()

    @contextmanager
    def rebuild(self) -> Iterator[Rebuild]:
        self._check_open()
        generation = _Generation()
        with self._lock:
            self._next = generation
        try:
            yield _MemoryRebuild(self, generation)
            with self.is_next(generation):
                self._present, self._next = generation, None
        finally:
            with self._lock:
                self._next = None if self._next is generation else self._next

    @contextmanager
    def is_next(self, generation: "_Generation") -> Iterator[None]:
        """Run the block with the lock held. Raises BackendRejected when another rebuild has discarded the
        generation."""
        self._check_open()
        with self._lock:
            if self._next is not generation:
                raise BackendRejected("another rebuild was begun, which discarded this one")
            yield

    def _check_open(self) -> None:
        if self._closed:
            raise BackendUnavailable("the search was closed")


class _MemoryRebuild(Rebuild):
    def __init__(self, search: MemorySearch, generation: "_Generation") -> None:
        self._search, self._generation = search, generation

    def add_many(self, coupons: Sequence[Coupon]) -> None:
        with self._search.is_next(self._generation):
            self._generation.put_many(coupons)


class _Generation:
    """Documents by code, and for each query the sorted codes of the documents that match it."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._codes: defaultdict[Query, list[str]] = defaultdict(list)

    def put_many(self, coupons: Sequence[Coupon]) -> None:
        for coupon in coupons:
            self._put(document(coupon))

    def _put(self, new: Document) -> None:
        code = new["couponCode"]
        old = self._documents.get(code)
        if old is not None and old["version"] >= new["version"]:
            return
        for query in () if old is None else _queries(old):
            codes = self._codes[query]
            del codes[bisect_left(codes, code)]
        for query in _queries(new):
            insort(self._codes[query], code)
        self._documents[code] = new

    def find(self, query: Query, limit: int, after: str) -> list[Document]:
        codes = self._codes.get(query, [])
        first = bisect_right(codes, after)
        return [self._documents[code].copy() for code in codes[first : first + limit]]

    def count(self) -> Counts:
        used = sum(doc["used"] for doc in self._documents.values())
        held = sum(doc["issued"] and not doc["used"] for doc in self._documents.values())
        return Counts(len(self._documents) - used - held, held, used)


def _queries(matching: Document) -> set[Query]:
    """All queries that the document matches."""
    user_ids, days = {None, matching["userId"]}, {None, None if matching["used"] else Day(matching["expireAt"])}
    return {Query(user_id, day) for user_id in user_ids for day in days}
