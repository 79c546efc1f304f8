"""An issue while ten creations of a million are queued, beside the same while nothing is queued.

It is timed from its acceptance until the worker says that it is in the store.
It runs embedded with one worker, as ``make run`` starts it, and on the real servers.

Nobody waits for the ten million: after its rounds a service is stopped, and its files are deleted.
On servers that were given, its names stay, under a prefix of their own.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import quantiles
from typing import NamedTuple

from tests.bench.caller import Client
from tests.bench.figure import Figure
from tests.bench.latency import Sent
from tests.bench.place import Place, opened
from tests.bench.running import WORKERS, Part, Running, WorkerLog
from tests.bench.web_cpu import FIRST, LAST
from tests.e2e.deployment import Deployment

ROUNDS, SECONDS = 3, 15
RATE, CLIENTS = 20, 4
CREATIONS, AMOUNT = 10, 1_000_000
APPLIED_WITHIN_S = 60


class Ran(NamedTuple):
    """Milliseconds from accepted to applied, sorted by nothing, and coupons that were created a second meanwhile."""

    applied_ms: list[float]
    created: float


def figures(place: Place) -> list[Figure]:
    return [
        *on("embedded, one worker", place.embedded(), workers=1),
        *on(f"real servers, {WORKERS} workers", place.on_services(), workers=WORKERS),
    ]


def on(where: str, environ: dict[str, str], workers: int) -> Iterator[Figure]:
    name = f"from accepted to applied beside {CREATIONS} creations of {AMOUNT:,}"
    p50 = Figure(f"{name}, p50 ({where})", "ms", "without them")
    p99 = Figure(f"{name}, p99 ({where})", "ms", at_most=1_000)
    p99_beside = Figure(p99.name, "ms", "without them", ours=p99.ours)
    created = Figure(f"coupons created meanwhile ({where})", "1/s", "without commands", at_least=0.5)
    with opened(environ) as (loaded, backends), Deployment(environ, workers=workers) as deployment:
        running = Running(loaded, backends, deployment)
        run(running)
        for _ in range(ROUNDS):
            ran = run(running)
            p50.against.append(percentile(ran.applied_ms, 50))
            p99_beside.against.append(percentile(ran.applied_ms, 99))
        queue_creations(running)
        alone(running)
        for _ in range(ROUNDS):
            created.against.append(alone(running))
            ran = run(running)
            p50.ours.append(percentile(ran.applied_ms, 50))
            p99.ours.append(percentile(ran.applied_ms, 99))
            created.ours.append(ran.created)
    yield from (p50, p99, p99_beside, created)


def queue_creations(running: Running) -> None:
    body = {"amount": AMOUNT, "validFrom": FIRST, "expireAt": LAST}
    for _ in range(CREATIONS):
        answer = running.deployment.session.post(f"{running.deployment.url}/v1/coupons", json=body, timeout=30)
        assert answer.status_code == 202, answer.text


def alone(running: Running) -> float:
    """Coupons created a second while there are no commands."""
    log = running.log()
    time.sleep(SECONDS)
    return _created(log) / SECONDS


def run(running: Running) -> Ran:
    """Issues at a pace that is no load."""
    codes = [coupon.code for coupon in running.stored(RATE * SECONDS)]
    log, sent, began = running.log(), dict[str, Sent](), time.time() + 0.1
    due = iter([(began + number / RATE, code) for number, code in enumerate(codes)])
    with ThreadPoolExecutor(CLIENTS) as pool:
        for caller in [pool.submit(issue, running.deployment.url, due, sent) for _ in range(CLIENTS)]:
            caller.result()
    created = _created(log, close=False) / (time.time() - began)
    applied = applied_at(log, len(sent))
    log.close()
    return Ran([(applied[_operation(id_)] - one.at) * 1e3 for id_, one in sent.items()], created)


def issue(url: str, due: Iterator[tuple[float, str]], sent: dict[str, Sent]) -> None:
    """Issue the coupons when they are due. Who is told to try again (503) is not counted."""
    client = Client(url)
    for at, code in due:
        time.sleep(max(0.0, at - time.time()))
        one = Sent(time.time(), f"user {code}")
        try:
            answer = client.send("PUT", "/v1/coupons/issue", {"couponCode": code, "userId": one.user})
        except AssertionError as error:
            if "BUSY" not in str(error):
                raise
            continue
        sent[answer["operationId"]] = one
    client.close()


def applied_at(log: WorkerLog, number: int) -> dict[str, float]:
    """When each of so many operations was applied."""
    deadline = time.monotonic() + APPLIED_WITHIN_S
    while len(applied := _applied(log.read())) < number:
        assert time.monotonic() < deadline, f"{len(applied)} of {number} applied in {APPLIED_WITHIN_S} s"
        time.sleep(0.1)
    return applied


def _operation(id_: str) -> str:
    """As the workers tell it."""
    return id_.partition("-")[0]


def percentile(values: list[float], of_100: int) -> float:
    return quantiles(values, n=100, method="inclusive")[of_100 - 1]


def _applied(parts: list[Part]) -> dict[str, float]:
    return {operation: part.at for part in parts for operation in part.applied}


def _created(log: WorkerLog, *, close: bool = True) -> int:
    created = sum(part.created for part in log.read())
    if close:
        log.close()
    return created
