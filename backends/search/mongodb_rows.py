"""The documents of one generation: a row for each version, which never changes.

``{"_id": "15BR0835OWXT4180EHZ/0000000000000000002", "couponCode": "15BR0835OWXT4180EHZ", "version": 2, …}``

A new version is inserted, and then the rows of older ones are deleted. Whoever inserts a row looks after that at all
rows of its coupon. So of several writers the last one sees all rows, and deletes all but the newest: a version never
goes back, whatever the order. It takes no more than a unique key. FerretDB 1.24 reads and writes in two
transactions, so that its conditional updates overwrite each other.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, cast

from pymongo import IndexModel
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from backends.search.mongodb_client import Row, is_unconfirmed, refusals
from coupon.domain.model import Coupon
from coupon.domain.serialization import DOCUMENT_FIELDS, Document, completed, document
from coupon.ports.search import Counts, Query

BULK_MAX = 1_000
"""The most documents of a request: each request has the whole timeout for itself."""
ORDER = [("couponCode", 1), ("version", 1)]
"""Within a coupon the newest is the last: who reads while it replaces an older one misses neither."""
INDEXES = [
    IndexModel(ORDER, name="codes"),
    IndexModel([("userId", 1), *ORDER], name="holders"),
    IndexModel([("expireAt", 1), ("used", 1), *ORDER], name="days"),
]
"""Each query reads a page in order from one of them, so its cost does not depend on the length of the list."""
FIELDS = {"_id": False, **dict.fromkeys(DOCUMENT_FIELDS, True)}
VERSIONS = {"_id": False, "couponCode": True, "version": True}


class Rows:
    def __init__(self, collection: Collection[Row]) -> None:
        self._collection = collection

    def make_indexes(self) -> None:
        """Make the collection and its indexes, or what is missing of them. One by one: FerretDB 1.24 breaks off the
        connection when it is asked for several that are there."""
        for index in INDEXES:
            self._collection.create_indexes([index])

    def write(self, coupons: Sequence[Coupon]) -> None:
        for first in range(0, len(coupons), BULK_MAX):
            self._write(_newest(map(document, coupons[first : first + BULK_MAX])))

    def find(self, query: Query, limit: int, after: str) -> list[Document]:
        conditions, found, others = _conditions(query), dict[str, Document](), 0
        while len(found) < limit:
            asked = limit - len(found) + others
            page = self._page(conditions | {"couponCode": {"$gt": after}}, asked)
            rows = [row for row in page if isinstance(row.get("couponCode"), str)]
            found |= {row["couponCode"]: _document(row) for row in rows}
            if len(page) < asked:
                break
            others = len(page) - len(rows)  # a list of codes is not ours, and is on each page
            after = rows[-1]["couponCode"] if rows else after
        return list(found.values())[:limit]

    def count(self) -> Counts:
        """A coupon that is being replaced may count twice."""
        free, issued = ({"used": False, "issued": is_issued} for is_issued in (False, True))
        return Counts(*(self._collection.count_documents(each) for each in (free, issued, {"used": True})))

    def _page(self, conditions: Row, limit: int) -> list[Row]:
        """In one response: a negative limit asks for one, and the size of a batch for all of it."""
        return list(self._collection.find(conditions, FIELDS, sort=ORDER, limit=-limit, batch_size=limit))

    def _write(self, documents: dict[str, Document]) -> None:
        versions = self._versions(documents)
        new = [doc for code, doc in documents.items() if doc["version"] > max(versions[code], default=0)]
        if new:
            self.insert(new)
            versions = self._versions(documents)
        old = [row_id(code, each) for code, known in versions.items() for each in known if each < max(known)]
        if old:
            self._collection.delete_many({"_id": {"$in": old}})

    def _versions(self, codes: Iterable[str]) -> defaultdict[str, list[int]]:
        """The versions of each coupon that are there."""
        codes = list(codes)
        found: defaultdict[str, list[int]] = defaultdict(list)
        for row in self._collection.find({"couponCode": {"$in": codes}}, VERSIONS, batch_size=2 * len(codes) + 1):
            if isinstance(row["couponCode"], str) and isinstance(row.get("version"), int):
                found[row["couponCode"]].append(row["version"])
        return found

    def insert(self, documents: Iterable[Document]) -> None:
        rows: list[Row] = [{"_id": row_id(doc["couponCode"], doc["version"]), **doc} for doc in documents]
        try:
            self._collection.insert_many(rows, ordered=False)
        except BulkWriteError as error:
            if refusals(error) or is_unconfirmed(error):
                raise


def row_id(code: str, version: int) -> str:
    return f"{code}/{version:019d}"


def _newest(documents: Iterable[Document]) -> dict[str, Document]:
    """By code; of the same version the first one."""
    newest: dict[str, Document] = {}
    for doc in documents:
        known = newest.get(doc["couponCode"])
        if known is None or known["version"] < doc["version"]:
            newest[doc["couponCode"]] = doc
    return newest


def _conditions(query: Query) -> dict[str, Any]:
    conditions: dict[str, Any] = {}
    if query.user_id is not None:
        conditions["userId"] = query.user_id
    if query.unused_until is not None:
        conditions |= {"expireAt": query.unused_until, "used": False}
    return conditions


def _document(row: Row) -> Document:
    """With a plain int: the driver gives a large one a class of its own."""
    if isinstance(row.get("version"), int):
        row["version"] = int(row["version"])
    return cast(Document, completed(row))
