"""What workers apply on the real servers, beside what the emulator makes of the same writes when they are ready to
be sent (``bare.Emulator``).

The rates are told by the workers' own log, from the end of the first part to the end of the last.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from coupon.domain.model import Coupon, Kind, transition
from tests.bench.bare import Emulator
from tests.bench.caller import SteadyCaller
from tests.bench.figure import Figure, cpu_s
from tests.bench.importing import generated
from tests.bench.place import Place, opened
from tests.bench.running import WORKERS, Running
from tests.bench.web_cpu import FIRST, LAST
from tests.coupons import a_command
from tests.e2e.deployment import Deployment, rss_peak_mb

ROUNDS = 5
ORIGINAL = "the original"
YARDSTICK = "the emulator's own maximum"
A_ROUND, BACKLOG, IMPORTED = 20_000, 30_000, 100_000
QUIET_S = 5


def figures(place: Place) -> list[Figure]:
    emulator, environ = Emulator(place.services.dynamodb), place.on_services()
    with opened(environ) as (loaded, backends), Deployment(environ, workers=WORKERS) as deployment:
        running = Running(loaded, backends, deployment)
        warm_up(running, emulator)
        found = [*rates(running, emulator), *backlog(running, emulator)]
        found.append(imported(running, emulator, place.new_folder()))
        peaks = [rss_peak_mb(pid) for pid in running.workers]
        return [*found, Figure("memory of a worker after all this", "MB", at_most=150, ours=peaks)]


def warm_up(running: Running, emulator: Emulator) -> None:
    """Java compiles what it has seen often."""
    coupons = running.stored(A_ROUND)
    emulator.writes_a_second(coupons)
    running.applied_a_second(A_ROUND, lambda: running.publish_creations(A_ROUND))
    running.applied_a_second(A_ROUND, lambda: running.publish_issues(coupons))


def rates(running: Running, emulator: Emulator) -> Iterator[Figure]:
    creations = Figure("creations of one applied", "1/s", YARDSTICK, at_least=0.7)
    issues = Figure("issues applied", "1/s", YARDSTICK, at_least=0.7)
    for _ in range(ROUNDS):
        coupons = running.stored(A_ROUND)
        creations.against.append(emulator.writes_a_second(coupons))
        creations.ours.append(running.applied_a_second(A_ROUND, lambda: running.publish_creations(A_ROUND)))
        issues.against.append(emulator.writes_a_second([_issued(coupon) for coupon in coupons]))
        issues.ours.append(
            running.applied_a_second(A_ROUND, lambda: running.publish_issues(coupons))  # noqa: B023 - called at once
        )
    yield creations
    yield issues
    yield Figure("creations of one applied", "1/s", ORIGINAL, at_least=1, of_record=388, ours=creations.ours)
    yield Figure("creations of one applied, by the second", "1/s", at_least=1_500, ours=creations.ours)


def backlog(running: Running, emulator: Emulator) -> list[Figure]:
    """Issues that gathered while the workers were stopped, and a caller meanwhile."""
    drained = Figure(f"issues applied, of a backlog of {BACKLOG:,}", "1/s", YARDSTICK, at_least=0.7)
    slower = Figure("a creation of one meanwhile, p50", "ms", "without a backlog", at_most=1.1)
    cost = Figure("CPU of the workers for an issue of it", "µs")
    for _ in range(ROUNDS):
        coupons = running.stored(BACKLOG)
        emulator.writes_a_second(coupons)
        drained.against.append(emulator.writes_a_second([_issued(coupon) for coupon in coupons]))
        with caller(running) as quiet:
            time.sleep(QUIET_S)
        before, busy = cpu_s(running.workers), caller(running)
        drained.ours.append(
            running.applied_a_second(BACKLOG, lambda: running.publish_issues(coupons), busy)  # noqa: B023
        )
        cost.ours.append((cpu_s(running.workers) - before) / BACKLOG * 1e6)
        slower.ours.append(median(busy.took_ms))
        slower.against.append(median(quiet.took_ms))
    return [drained, slower, cost]


def caller(running: Running) -> SteadyCaller:
    return SteadyCaller(
        running.deployment.url, "POST", "/v1/coupons", {"amount": 1, "validFrom": FIRST, "expireAt": LAST}
    )


def imported(running: Running, emulator: Emulator, folder: Path) -> Figure:
    """By the command line, from a file."""
    figure = Figure(f"rows of an import of {IMPORTED:,}", "1/s", YARDSTICK, at_least=0.7)
    for round_ in range(ROUNDS):
        file = generated(folder, IMPORTED, seed=round_)
        figure.against.append(emulator.writes_a_second(running.fresh(A_ROUND)))
        report = json.loads(running.deployment.coupon("import", "--json", str(file), timeout=600).stdout)
        assert report["new"] == IMPORTED, report
        figure.ours.append(report["rowsPerSecond"])
        file.unlink()
    return figure


def _issued(coupon: Coupon) -> Coupon:
    issue = a_command(Kind.ISSUE, "i" * 20, code=coupon.code, user_id="user 1")
    return transition(coupon, issue)._replace(revision=coupon.revision + 1)
