"""``coupon restore`` of a lost store, a process of its own, beside one worker that carried the same out the first time.

Both create all coupons, decide on all commands and save them; the worker also indexes and commits. The restore also
starts and builds the index: all of that is in its time.
"""

import time
from collections.abc import Sequence

from coupon.acceptance.requests import Caller
from coupon.acceptance.service import CommandService
from coupon.domain.model import Coupon, Kind, create
from coupon.domain.serialization import encode_command
from coupon.domain.topics import GROUP, LAYOUTS, work_topics
from coupon.ports.queue import Message
from coupon.runtime.wiring import Backends
from coupon.worker.worker import Worker, join
from tests.bench.figure import Figure
from tests.bench.place import Place, opened, quiet
from tests.bench.processes import FLAT, coupon
from tests.bench.web_cpu import FIRST, LAST
from tests.coupons import a_command, a_creation

EMBEDDED, FEW, ON_SERVERS = 20_000, 2_000, 5_000
PUBLISHED_AT_ONCE = 5_000
ROUNDS = 3


def figures(place: Place) -> list[Figure]:
    """Commands a second, and how memory grows with their number."""
    with quiet():
        embedded, many = restored(place.embedded(), EMBEDDED, "SQLite")
        _, few = restored(place.embedded(), FEW, "SQLite")
        servers, _ = restored(place.on_services(), ON_SERVERS, "the real servers")
    memory = Figure(f"peak memory of a restore of {EMBEDDED:,}", "MB", f"of {FEW:,}", FLAT, ours=many, against=few)
    return [embedded, memory, servers]


def restored(environ: dict[str, str], coupons: int, where: str) -> tuple[Figure, list[float]]:
    """The figure, and the peak memory of each round: coupons that are created and issued, in a new store each time."""
    figure = Figure(
        f"coupons, created and issued, restored of {coupons:,} on {where}", "/s", "one worker, before", at_least=0.5
    )
    with opened(environ) as (loaded, backends):
        figure.against = [
            lived(CommandService(backends, loaded), Worker(backends, loaded, join(backends, loaded)), backends, coupons)
        ]
    peaks = []
    for round_ in range(ROUNDS):
        lost = {**environ, "COUPON_STORE_URL": f"{environ['COUPON_STORE_URL']}-{round_}"}
        coupon(lost, "init")
        taken = coupon(lost, "restore", "--force")
        figure.ours.append(coupons / taken.seconds)
        peaks.append(taken.peak_mb)
    return figure, peaks


def lived(service: CommandService, worker: Worker, backends: Backends, number: int) -> float:
    """Create so many coupons and issue each. How many a second the worker did."""
    address = service.create(number, FIRST, LAST, Caller("bench"))
    seconds = drain(worker, backends)
    born = a_creation(amount=number, operation=address.operation, valid_from=FIRST, expire_at=LAST)
    publish_issues([create(born, code) for code in service.codes(address, 0, number)], backends)
    return number / (seconds + drain(worker, backends))


def publish_issues(coupons: Sequence[Coupon], backends: Backends) -> None:
    topic = LAYOUTS["single"][Kind.ISSUE]
    for first in range(0, len(coupons), PUBLISHED_AT_ONCE):
        commands = [
            a_command(Kind.ISSUE, f"{number:020}", previous=it.last_operation, code=it.code, user_id="ann")
            for number, it in enumerate(coupons[first : first + PUBLISHED_AT_ONCE], first)
        ]
        backends.queue.publish([Message(topic, c.code, encode_command(c)) for c in commands])


def drain(worker: Worker, backends: Backends) -> float:
    """Seconds until nothing is left."""
    began = time.perf_counter()
    while backends.queue.lag(work_topics("single"), GROUP):
        worker.run_once(poll_s=0.02)
    return time.perf_counter() - began
