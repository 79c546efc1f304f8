"""What others wait for while 2,000 clients are slow: embedded, two web processes, each probe on a new connection."""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from statistics import quantiles

from coupon.acceptance.service import CommandService
from tests.bench.caller import Client
from tests.bench.figure import Figure
from tests.bench.place import Place, opened
from tests.bench.running import stored
from tests.e2e.clients import KINDS, held, latencies_s
from tests.e2e.deployment import Deployment, eventually

ROUNDS = 3
HELD, SAMPLES = 2_000, 150
"""So few that they are over before the slow ones are sent away."""
PAUSE_S = 0.005


def figures(place: Place) -> list[Figure]:
    """The p99 of probes, and of issues, beside none and beside each kind of slowness, in turns."""
    kinds = ["none", *KINDS]
    livez, issues = ([_figure(name, kind) for kind in kinds] for name in ("/livez", "an issue"))
    environ = place.embedded()
    with opened(environ) as (loaded, backends), Deployment(environ) as running:
        coupons = stored(CommandService(backends, loaded), backends, (ROUNDS + 1) * len(kinds) * SAMPLES)
        codes = iter([coupon.code for coupon in coupons])
        an_issue(running.url, codes)()  # the cache is new
        for _ in range(ROUNDS):
            for kind, of_livez, of_issues in zip(kinds, livez, issues, strict=True):
                with held(running.port, kind, HELD) if kind in KINDS else nullcontext():
                    of_livez.ours.append(p99_ms(lambda: latencies_s(running.port, 1)[0]))
                    of_issues.ours.append(p99_ms(an_issue(running.url, codes)))
    return [*livez, *issues]


def _figure(name: str, kind: str) -> Figure:
    return Figure(f"{name}, p99, slow connections: {kind}", "ms", at_most=1_000)


def an_issue(url: str, codes: Iterator[str]) -> Callable[[], float]:
    """Sends the next one, again while it is told to try again, and says how long that took."""

    def send() -> float:
        began = time.perf_counter()
        command = {"couponCode": next(codes), "userId": "ann"}
        eventually(lambda: bool(sent(url, command)), 30, AssertionError)
        return time.perf_counter() - began

    return send


def sent(url: str, command: object) -> str:
    client = Client(url)
    try:
        return str(client.send("PUT", "/v1/coupons/issue", command))
    finally:
        client.close()


def p99_ms(work: Callable[[], float]) -> float:
    took = []
    for _ in range(SAMPLES):
        took.append(work() * 1e3)
        time.sleep(PAUSE_S)
    return quantiles(took, n=100, method="inclusive")[98]
