"""What docs/scale.md reckons with, beyond what other groups measure.

That is an issue by one caller, the long jobs of the command line on the real servers, and what a document costs
Elasticsearch.

None of them has a goal.
"""

import time
from collections.abc import Iterator

import requests

from coupon.domain.model import Coupon, Kind, transition
from tests.bench.caller import Client
from tests.bench.figure import Figure, cpu_s
from tests.bench.place import Place, opened
from tests.bench.running import SAVED_AT_ONCE, Running
from tests.bench.wrk import load, paths
from tests.coupons import a_command
from tests.e2e.deployment import Deployment

ROUNDS = 5
ISSUED, WARM_UP = 1_000, 2_000
COUPONS, HELD_BY_EACH = 100_000, 5
WARM_UP_S = 25
"""Java compiles what it has seen often."""


def figures(place: Place) -> list[Figure]:
    environ = place.on_services()
    with opened(environ) as (loaded, backends), Deployment(environ, workers=0) as deployment:
        running = Running(loaded, backends, deployment)
        found = [issues(running)]
        for first in range(0, COUPONS, SAVED_AT_ONCE):
            backends.store.save_many([used(coupon, first + n) for n, coupon in enumerate(running.fresh(SAVED_AT_ONCE))])
        found += long_jobs(running, place.services.pid("elasticsearch"))
        index = environ["COUPON_SEARCH_URL"].partition("index=")[2]
        return [*found, documents(f"http://{place.services.elasticsearch}/{index}"), lists(place, deployment.url)]


def issues(running: Running) -> Figure:
    """By one caller and nobody else, of coupons that the cache does not know."""
    figure = Figure(f"an accepted issue, one caller: each of {ISSUED:,} after {WARM_UP:,}", "ms")
    client = Client(running.deployment.url)
    for number, coupon in enumerate(running.stored(WARM_UP + ISSUED)):
        began = time.perf_counter()
        client.send("PUT", "/v1/coupons/issue", {"couponCode": coupon.code, "userId": user(number)})
        if number >= WARM_UP:
            figure.ours.append((time.perf_counter() - began) * 1e3)
    client.close()
    return figure


def long_jobs(running: Running, elasticsearch: int) -> Iterator[Figure]:
    """The first run warms up."""
    reindex = Figure("documents of coupon reindex, real servers", "1/s")
    cost = Figure("CPU of Elasticsearch for a document of it", "µs")
    export = Figure("rows of coupon export, real servers", "1/s")
    number = COUPONS + ISSUED + WARM_UP
    for round_ in range(ROUNDS + 1):
        before, began = cpu_s([elasticsearch]), time.perf_counter()
        running.deployment.coupon("reindex", timeout=600)
        if round_:
            reindex.ours.append(number / (time.perf_counter() - began))
            cost.ours.append((cpu_s([elasticsearch]) - before) / number * 1e6)
        began = time.perf_counter()
        running.deployment.coupon("export", timeout=600)
        if round_:
            export.ours.append(number / (time.perf_counter() - began))
    yield from (reindex, cost, export)


def documents(index: str) -> Figure:
    """After a merge."""
    figure = Figure("a document in the index, on the disk", "bytes")
    requests.post(f"{index}/_forcemerge?max_num_segments=1", timeout=120).raise_for_status()
    statistics = requests.get(f"{index}/_stats", timeout=10).json()["_all"]["primaries"]
    figure.ours.append(statistics["store"]["size_in_bytes"] / statistics["docs"]["count"])
    return figure


def lists(place: Place, url: str) -> Figure:
    figure = Figure("CPU of Elasticsearch for a list of a user", "µs")
    pid, users = place.services.pid("elasticsearch"), range(0, COUPONS // HELD_BY_EACH, 3)
    script = paths([f"/v1/users/{user(number)}/coupons" for number in users], place.new_folder())
    load(url, script, WARM_UP_S, place.folder)
    for _ in range(ROUNDS):
        before = cpu_s([pid])
        answers = load(url, script, folder=place.folder).answers
        figure.ours.append((cpu_s([pid]) - before) / answers * 1e6)
    return figure


def user(number: int) -> str:
    """Sixteen characters."""
    return f"user{number:012d}"


def used(coupon: Coupon, number: int) -> Coupon:
    """As it is after an issue and a use, five to a user, to be created as it is."""
    for kind, operation in ((Kind.ISSUE, "i" * 20), (Kind.USE, "u" * 20)):
        holder, last = user(number // HELD_BY_EACH), coupon.history[-1]
        coupon = transition(
            coupon,
            a_command(kind, operation, last.operation, code=coupon.code, user_id=holder),
        )
    return coupon._replace(revision=1)
