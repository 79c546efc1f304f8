"""How long an issue takes on the real servers from the request to the store and to search, at half of what the service
holds: web, workers, servers and callers on the same machine.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from statistics import median, quantiles
from typing import NamedTuple

from coupon.ports.search import Query, Search
from tests.bench.caller import Client
from tests.bench.figure import Figure
from tests.bench.place import Place, opened
from tests.bench.running import Running
from tests.bench.wrk import changes, load
from tests.e2e.deployment import Deployment

ROUNDS = 5
WORKERS = 3
WARM_UP_S, LATENCY_S, CLIENTS = 15, 8, 8
FRESH_A_SECOND = 4_000
"""More than are issued."""
SAMPLED = 20
"""Every twentieth issue is looked for in search."""
LOOK_S = 0.02


class Sent(NamedTuple):
    """When a command was sent (seconds since the epoch), and for which user."""

    at: float
    user: str


def figures(place: Place) -> list[Figure]:
    environ = place.on_services()
    with opened(environ) as (loaded, backends), Deployment(environ, workers=WORKERS) as deployment:
        running = Running(loaded, backends, deployment)
        held(running, place, WARM_UP_S)
        holds = Figure("issues accepted and carried out at the same time, to the last", "1/s")
        holds.ours = [held(running, place, LATENCY_S) for _ in range(ROUNDS)]
        return [holds, *latencies(running, median(holds.ours) / 2)]


def held(running: Running, place: Place, seconds: int) -> float:
    """Issues a second of ``wrk -c32``, from the first request until the last of them is carried out."""
    codes = [coupon.code for coupon in running.stored(FRESH_A_SECOND * seconds)]
    log, began = running.log(), time.time()
    answers = load(
        f"{running.deployment.url}/v1/coupons", changes(codes, ["issue"], place.new_folder()), seconds, place.folder
    ).answers
    assert answers < len(codes)
    parts = log.read_until(answers)
    log.close()
    return answers / (max(part.at for part in parts) - began)


def latencies(running: Running, rate: float) -> list[Figure]:
    told = f"at {rate:,.0f}/s"
    p50 = Figure(f"from command to applied, p50, {told}", "ms", at_most=25)
    p99 = Figure(f"from command to applied, p99, {told}", "ms", at_most=250)
    found = Figure(f"from command to found, p99, {told}", "s", at_most=1.5)
    for _ in range(ROUNDS):
        applied_ms, found_s = waited(running, rate)
        p50.ours.append(_percentile(applied_ms, 50))
        p99.ours.append(_percentile(applied_ms, 99))
        found.ours.append(_percentile(found_s, 99))
    return [p50, p99, found]


def waited(running: Running, rate: float) -> tuple[list[float], list[float]]:
    """Milliseconds until each was applied, seconds until each of some was found."""
    amount = int(rate * LATENCY_S)
    codes, log = [coupon.code for coupon in running.stored(amount)], running.log()
    sent: dict[str, Sent] = {}
    began = time.time() + 0.5
    due = iter([(began + number / rate, code) for number, code in enumerate(codes)])
    clients = [threading.Thread(target=issue, args=(running.deployment.url, due, sent)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    found_s: list[float] = []
    while any(client.is_alive() for client in clients):
        if unseen := list(sent.values())[len(found_s) * SAMPLED :]:
            found_s.append(found_at(running.backends.search, unseen[0].user) - unseen[0].at)
        time.sleep(LOOK_S)
    for client in clients:
        client.join()
    assert len(sent) == amount, f"{len(sent):,} of {amount:,} were accepted"
    parts = log.read_until(amount)
    log.close()
    return _waits(sent, {operation: part.at for part in parts for operation in part.applied}), found_s


def issue(url: str, due: Iterator[tuple[float, str]], sent: dict[str, Sent]) -> None:
    """Issue the coupons when they are due; others take from the same iterator."""
    client = Client(url)
    for at, code in due:
        time.sleep(max(0.0, at - time.time()))
        now, user = time.time(), f"user {code}"
        sent[client.send("PUT", "/v1/coupons/issue", {"couponCode": code, "userId": user})["operationId"]] = Sent(
            now, user
        )
    client.close()


def found_at(search: Search, user_id: str) -> float:
    while not search.find(Query(user_id=user_id), 1):
        time.sleep(LOOK_S)
    return time.time()


def _waits(sent: Mapping[str, Sent], applied: Mapping[str, float]) -> list[float]:
    return [(applied[operation] - one.at) * 1e3 for operation, one in sent.items()]


def _percentile(values: list[float], of_100: int) -> float:
    return quantiles(values, n=100, method="inclusive")[of_100 - 1]
