"""A user's list from search on MongoDB, beside the same from Elasticsearch. The server is FerretDB on SQLite.

That one reads the whole collection for each list. So there are few coupons, and the figure tells of the way through our
code and the driver, and of FerretDB; not of MongoDB. At 32 callers at a time it would answer too late for most of them.
"""

import time
from contextlib import closing
from itertools import cycle, islice

from coupon.ports.search import Query, Search
from coupon.runtime.wiring import open_backend
from tests.bench.figure import Figure
from tests.bench.place import Place
from tests.bench.taking import HELD_BY_EACH, held_coupons
from tests.e2e.deployment import Servers

ROUNDS, HELD, LISTS = 7, 1_000, 20


def figures(place: Place) -> list[Figure]:
    held = list(held_coupons(HELD))
    users = cycle([coupon.user_id for coupon in held[::HELD_BY_EACH]])
    name = f"a list of a user's {HELD_BY_EACH} coupons of {HELD:,}, by search alone, on FerretDB"
    figure = Figure(name, "ms", "the same on Elasticsearch")
    with closing(opened(place, "mongodb")) as ours, closing(opened(place, "elasticsearch")) as other:
        for search in (ours, other):
            search.create()
            search.index_many(held)
        time.sleep(2)  # until they are found
        for values, search in ((figure.ours, ours), (figure.against, other)) * ROUNDS:
            values.append(list_ms(search, list(islice(users, LISTS))))
    return [figure]


def opened(place: Place, server: str) -> Search:
    return open_backend(Search, f"{place.on_services(Servers(search=server))['COUPON_SEARCH_URL']}&timeout_s=10")  # type: ignore[type-abstract]


def list_ms(search: Search, users: list[str | None]) -> float:
    began = time.perf_counter()
    for user in users:
        assert len(search.find(Query(user), 101)) == HELD_BY_EACH
    return (time.perf_counter() - began) / len(users) * 1_000
