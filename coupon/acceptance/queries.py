"""Queries: one coupon from the store, lists of coupons from search, page by page.

A cursor says where the next page begins. It is signed together with the name of its list, so that it is good for no
other list, and nobody can make one up.
"""

import hmac
from collections.abc import Sequence
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import structlog

from coupon.domain.clock import Clock, day_of, now_ms
from coupon.domain.codes import CodeDeriver, is_code
from coupon.domain.errors import InvalidCursor
from coupon.domain.model import Coupon, Day
from coupon.domain.serialization import Document, fault_of_document
from coupon.ports.search import Query, Search
from coupon.ports.store import Store

ROUNDS = 10
"""The most searches for one page."""
AGAIN = 100
"""At least so many rows are asked for after a search in which some rows were no documents."""
log = structlog.get_logger("coupon.queries")


class Page(NamedTuple):
    """Some rows of a list, and the cursor of the next ones; None when these were the last."""

    items: list[Document]
    next: str | None


class Cursors:
    """Makes cursors, and checks those that come back."""

    def __init__(self, code_deriver: CodeDeriver) -> None:
        self._code_deriver = code_deriver

    def give(self, of: str, place: str) -> str:
        """A cursor of the list ``of``, from ``place`` on."""
        return f"{place}.{self._sign(of, place)}"

    def take(self, of: str, cursor: str) -> str:
        """The place; raises InvalidCursor when it was not given for that list."""
        place, _, signature = cursor.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(of, place).encode()):
            raise InvalidCursor(cursor)
        return place

    def _sign(self, of: str, place: str) -> str:
        return self._code_deriver.sign(f"{of}\0{place}", purpose="cursor")


class Queries:
    """Answers queries. Thread-safe. Every method raises BackendUnavailable, the lists InvalidCursor too."""

    def __init__(
        self, search: Search, store: Store, code_deriver: CodeDeriver, zone: ZoneInfo, clock: Clock = now_ms
    ) -> None:
        self._search, self._store, self._zone, self._clock = search, store, zone, clock
        self._cursors = Cursors(code_deriver)

    def coupon(self, code: str) -> Coupon | None:
        """The coupon as the store has it."""
        return self._store.get_many([code]).get(code)

    def expiring_today(self, limit: int, cursor: str | None) -> Page:
        """The coupons whose last day is today and that are not used. A walk that began before midnight goes on with its
        own day."""
        if cursor is None:
            day, after = day_of(self._clock(), self._zone), ""
        else:
            text, _, after = self._cursors.take("expired", cursor).rpartition("/")
            day = Day(text)
        found, last = self._find(Query(unused_until=day), limit, after)
        return Page(found, last and self._cursors.give("expired", f"{day}/{last}"))

    def held_by(self, user_id: str, limit: int, cursor: str | None) -> Page:
        """The coupons that the user holds."""
        of = f"user {user_id}"
        after = "" if cursor is None else self._cursors.take(of, cursor)
        found, last = self._find(Query(user_id=user_id), limit, after)
        return Page(found, last and self._cursors.give(of, last))

    def _find(self, query: Query, limit: int, after: str) -> tuple[list[Document], str | None]:
        """Up to ``limit`` rows, and the code behind which there are more: one more row than asked for tells. In the
        place of what is no document more are asked for, so often and not more: then the page is short."""
        rows: list[Document] = []
        wanted = limit + 1
        for _ in range(ROUNDS):
            found = self._search.find(query, wanted, after)
            rows += _documents(found)
            if len(rows) > limit:
                return rows[:limit], rows[limit - 1]["couponCode"]
            places = [code for item in found if (code := _code(item)) is not None and code > after]
            if len(found) < wanted or not places:
                return rows, None
            after, wanted = max(places), max(limit + 1, AGAIN)
        return rows, after


def _documents(found: Sequence[Any]) -> list[Document]:
    """Those that are a coupon's: an index is written by whoever reaches it."""
    good = []
    for item in found:
        if (fault := fault_of_document(item)) is None:
            good.append(item)
        else:
            log.warning("document left out", code=_code(item), error=fault)
    return good


def _code(item: Any) -> str | None:
    """The code of what may be no document."""
    code = item.get("couponCode") if isinstance(item, dict) else None
    return code if isinstance(code, str) and is_code(code) else None
