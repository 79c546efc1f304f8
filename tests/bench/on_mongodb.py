"""A user's list where search is on MongoDB, beside the same on Elasticsearch. The server is FerretDB on SQLite.

That one reads the whole collection for each list. So there are few coupons, and the figure tells of the way through our
code and the driver, and of FerretDB; not of MongoDB.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.figure import Figure
from tests.bench.place import Place, opened
from tests.bench.taking import HELD_BY_EACH, held_coupons
from tests.bench.wrk import load, paths
from tests.e2e.deployment import Deployment, Servers

ROUNDS, WARM_UP_S, HELD = 5, 10, 200


def figures(place: Place) -> list[Figure]:
    users = [coupon.user_id for coupon in list(held_coupons(HELD))[::HELD_BY_EACH]]
    script = paths([f"/v1/users/{user}/coupons" for user in users], place.new_folder())
    name = f"lists of a user's {HELD_BY_EACH} coupons of {HELD} on FerretDB"
    rate = Figure(name, "1/s", "the same on Elasticsearch")
    slow = Figure(f"the same, p99: {name}", "ms", "the same on Elasticsearch")
    with serving(place, "mongodb") as ours, serving(place, "elasticsearch") as other:
        for url in (ours, other):
            load(url, script, WARM_UP_S, place.folder)
        for _ in range(ROUNDS):
            for url, rates, slowest in ((ours, rate.ours, slow.ours), (other, rate.against, slow.against)):
                seen = load(url, script, folder=place.folder)
                rates.append(seen.rate)
                slowest.append(seen.p99_ms)
    return [rate, slow]


@contextmanager
def serving(place: Place, search: str) -> Iterator[str]:
    """The address of a web side whose search is on that server, and holds the coupons."""
    environ = place.on_services(Servers(search=search))
    with opened(environ) as (_, backends):
        backends.search.index_many(list(held_coupons(HELD)))
        time.sleep(2)  # until they are found
        with Deployment(environ, workers=0) as running:
            yield running.url
