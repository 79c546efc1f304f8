"""How long an issue takes on the real servers, from when it is due until it is in the store, and in search.

Web, workers, servers and callers are on the same machine.

At half of what the same eight callers get when each sends its next one as soon as the last one was accepted. That is
less than half of what the service holds with more callers.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median, quantiles
from typing import NamedTuple

from coupon.ports.search import Query, Search
from tests.bench.caller import Client
from tests.bench.figure import Figure
from tests.bench.place import Place, opened
from tests.bench.running import WORKERS, Running
from tests.e2e.deployment import Deployment

ROUNDS = 5
WARM_UP = 8
"""Runs before the first that counts. For two minutes Java goes on compiling what it has seen often.
After ten seconds half of the time is still spent on that."""
CLIENTS, SECONDS = 8, 8
MOST_A_SECOND = 1_500
"""More than these callers get answers."""
SAMPLED = 20
"""Every twentieth issue is looked for in search."""
LOOK_S = 0.05
FOUND_WITHIN_S = 60


class Sent(NamedTuple):
    """When a command was due or, without a pace, sent (seconds since the epoch), and for which user."""

    at: float
    user: str


class Ran(NamedTuple):
    """How many issues a second were accepted and applied, and how long each took."""

    rate: float
    applied_ms: list[float]
    found_s: list[float]


def figures(place: Place) -> list[Figure]:
    environ = place.on_services()
    with opened(environ) as (loaded, backends), Deployment(environ, workers=WORKERS) as deployment:
        running = Running(loaded, backends, deployment)
        for _ in range(WARM_UP):
            run(running)
        holds = Figure(f"issues by {CLIENTS} callers, accepted and applied, to the last", "1/s")
        holds.ours = [run(running).rate for _ in range(ROUNDS)]
        return [holds, *latencies(running, median(holds.ours) / 2)]


def latencies(running: Running, rate: float) -> list[Figure]:
    p50 = Figure("from command to applied, p50, at half of that", "ms", at_most=25)
    p99 = Figure("from command to applied, p99, at half of that", "ms", at_most=250)
    found = Figure("from command to found, p99, at half of that", "s", at_most=1.5)
    for _ in range(ROUNDS):
        ran = run(running, rate)
        p50.ours.append(_percentile(ran.applied_ms, 50))
        p99.ours.append(_percentile(ran.applied_ms, 99))
        found.ours.append(_percentile(ran.found_s, 99))
    return [p50, p99, found]


def run(running: Running, rate: float | None = None) -> Ran:
    """Issue at that rate, or as fast as the callers get answers."""
    codes = [coupon.code for coupon in running.stored(int((rate or MOST_A_SECOND) * SECONDS))]
    log, sent = running.log(), dict[str, Sent]()
    began = time.time() + 0.2
    due = iter([(began + number / rate if rate else None, code) for number, code in enumerate(codes)])
    found_s: list[float] = []
    with ThreadPoolExecutor(CLIENTS) as pool:
        url, until = running.deployment.url, began + SECONDS
        callers = [pool.submit(issue, url, due, until, sent) for _ in range(CLIENTS)]
        while not all(caller.done() for caller in callers):
            if unseen := list(sent.values())[len(found_s) * SAMPLED :]:
                found_s.append(found_at(running.backends.search, unseen[0].user) - unseen[0].at)
            time.sleep(LOOK_S)
        for caller in callers:
            caller.result()
    assert rate is None or len(sent) == len(codes)
    parts = log.read_until(len(sent))
    log.close()
    applied = {operation: part.at for part in parts for operation in part.applied}
    applied_ms = [(applied[operation] - one.at) * 1e3 for operation, one in sent.items()]
    return Ran(len(sent) / (max(part.at for part in parts) - began), applied_ms, found_s)


def issue(url: str, due: Iterator[tuple[float | None, str]], until: float, sent: dict[str, Sent]) -> None:
    """Issue the coupons when they are due, or until then as fast as they are accepted; other callers take from the same
    iterator."""
    client = Client(url)
    for at, code in due:
        if at is None and time.time() > until:
            break
        time.sleep(max(0.0, (at or 0) - time.time()))
        one = Sent(at or time.time(), f"user {code}")
        answer = client.send("PUT", "/v1/coupons/issue", {"couponCode": code, "userId": one.user})
        sent[answer["operationId"]] = one
    client.close()


def found_at(search: Search, user_id: str) -> float:
    deadline = time.monotonic() + FOUND_WITHIN_S
    while not search.find(Query(user_id=user_id), 1):
        assert time.monotonic() < deadline, f"{user_id} is not found"
        time.sleep(LOOK_S)
    return time.time()


def _percentile(values: list[float], of_100: int) -> float:
    return quantiles(values, n=100, method="inclusive")[of_100 - 1]
