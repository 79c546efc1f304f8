"""How long an issue takes while Elasticsearch hangs (SIGSTOP), beside how long it takes while Elasticsearch is well.

All the while a hundred callers ask for lists without a pause. Coupons are issued and taken back.
"""

import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from statistics import quantiles
from typing import NamedTuple

from tests.bench.caller import Client
from tests.bench.figure import Figure
from tests.bench.place import Place
from tests.bench.wrk import paths
from tests.e2e.deployment import Deployment

ROUNDS, SECONDS = 5, 6
CALLERS, USERS, ISSUERS = 100, 1_000, 4
PAUSE_S = 0.02
FOUND_OUT_S = 3
"""So long it may take until the web side knows that search hangs, or does so no longer: a time-out, and a bit."""


class Took(NamedTuple):
    """Of the commands, in milliseconds."""

    p50: float
    p99: float
    longest: float


def figures(place: Place) -> list[Figure]:
    beside = "the same while Elasticsearch is well"
    p50, p99 = (
        Figure(f"an issue beside {CALLERS} callers of lists, Elasticsearch stopped, {which}", "ms", beside, at_most=1.2)
        for which in ("p50", "p99")
    )
    first = Figure("the same, the longest one while that is found out", "ms")
    with Deployment(place.on_services(), workers=1) as running:
        take = partial(commands, running.url, running.create(ISSUERS))
        with asking_for_lists(running.url, place):
            take(SECONDS)  # to warm up
            for _ in range(ROUNDS):
                well = take(SECONDS)
                with place.services.silent("elasticsearch"):
                    first.ours.append(take(FOUND_OUT_S).longest)
                    stopped = take(SECONDS)
                take(FOUND_OUT_S)
                for figure, ours, against in ((p50, stopped.p50, well.p50), (p99, stopped.p99, well.p99)):
                    figure.ours.append(ours)
                    figure.against.append(against)
    return [p50, p99, first]


@contextmanager
def asking_for_lists(url: str, place: Place) -> Iterator[None]:
    """wrk with so many connections, whatever it is answered."""
    script = place.new_folder() / "lists.lua"
    script.write_text(paths([f"/v1/users/user{number}/coupons" for number in range(USERS)], place.new_folder()))
    command = ["wrk", "-t1", f"-c{CALLERS}", "-d1h", "--timeout", "10s", "-s", str(script), url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as load:
        try:
            yield
        finally:
            load.terminate()


def commands(url: str, codes: Sequence[str], seconds: float, key: str = "") -> Took:
    """What they took, of a caller a coupon who pauses after each, all with one API key where there is one."""
    with ThreadPoolExecutor(len(codes)) as pool:
        took_ms = [each for took in pool.map(partial(issued_and_taken_back, url, seconds, key), codes) for each in took]
    percentiles = quantiles(took_ms, n=100, method="inclusive")
    return Took(percentiles[49], percentiles[98], max(took_ms))


def issued_and_taken_back(url: str, seconds: float, key: str, code: str) -> list[float]:
    """What each command took, in milliseconds; in the end the coupon is free again."""
    until, client, took_ms = time.monotonic() + seconds, Client(url, key), []
    while time.monotonic() < until:
        for command, more in (("issue", {"userId": "ann"}), ("cancel", {})):
            began = time.perf_counter()
            client.send_until_taken("PUT", f"/v1/coupons/{command}", {"couponCode": code} | more)
            took_ms.append((time.perf_counter() - began) * 1e3)
            time.sleep(PAUSE_S)
    client.close()
    return took_ms
