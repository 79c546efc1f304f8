"""Redis as cache and queue beside memcached and Kafka, in turns: what is accepted, and what workers apply.

Everything else is the same: DynamoDB Local and Elasticsearch, the web processes, the load. Redis acknowledges a command
when it is on the disk (``appendfsync always``). Kafka does when it is in the memory of all replicas, here of one.
"""

from contextlib import ExitStack
from itertools import islice
from typing import NamedTuple

from tests.bench.figure import Figure, cpu_s
from tests.bench.place import Place, opened
from tests.bench.running import WORKERS, Running
from tests.bench.taking import CREATION, issue_and_cancel
from tests.bench.wrk import changes, load, same
from tests.e2e.deployment import ON_REDIS, USUAL, Deployment, Servers, children

ROUNDS, WARM_UP_S = 5, 10
CACHED_A_ROUND, APPLIED_A_ROUND = 800, 10_000
YARDSTICK = "memcached and Kafka"


class _Side(NamedTuple):
    web: Deployment
    workers: Running


def figures(place: Place) -> list[Figure]:
    names = "accepted creations of one", "accepted issues and cancels, cached", "issues applied, of a backlog"
    creations, changed, applied = (Figure(f"{name}, on Redis", "1/s", YARDSTICK) for name in names)
    slowest = Figure("p99 of an accepted creation of one, on Redis", "ms", YARDSTICK)
    cost = Figure("CPU of the web processes for a creation of one, on Redis", "µs", YARDSTICK)
    with ExitStack() as stack:
        redis, usual = (_started(stack, place, servers) for servers in (ON_REDIS, USUAL))
        for side in (redis, usual):
            load(f"{side.web.url}/v1/coupons", same("POST", CREATION), WARM_UP_S, place.folder)
            _applied(side)
        for _ in range(ROUNDS):
            for side, taken in ((redis, "ours"), (usual, "against")):
                pids = children(side.web.process.pid)
                before = cpu_s(pids)
                seen = load(f"{side.web.url}/v1/coupons", same("POST", CREATION), folder=place.folder)
                getattr(cost, taken).append((cpu_s(pids) - before) / seen.answers * 1e6)
                getattr(creations, taken).append(seen.rate)
                getattr(slowest, taken).append(seen.p99_ms)
                getattr(changed, taken).append(_changed(side, place))
                getattr(applied, taken).append(_applied(side))
    return [creations, slowest, cost, changed, applied]


def _started(stack: ExitStack, place: Place, servers: Servers) -> _Side:
    """Web processes without workers, and a service of its own with workers."""
    web = stack.enter_context(Deployment(place.on_services(servers), workers=0))
    environ = place.on_services(servers)
    loaded, backends = stack.enter_context(opened(environ))
    deployment = stack.enter_context(Deployment(environ, web=1, workers=WORKERS))
    return _Side(web, Running(loaded, backends, deployment))


def _changed(side: _Side, place: Place) -> float:
    with opened(side.web.environ) as (loaded, backends):
        running = Running(loaded, backends, side.web)
        cached = [coupon.code for coupon in islice(running.stored(CACHED_A_ROUND), CACHED_A_ROUND)]
        issue_and_cancel(running.service, cached)
    return load(f"{side.web.url}/v1/coupons", changes(cached, ["issue", "cancel"], place.new_folder())).rate


def _applied(side: _Side) -> float:
    coupons = side.workers.stored(APPLIED_A_ROUND)
    return side.workers.applied_a_second(APPLIED_A_ROUND, lambda: side.workers.publish_issues(coupons))
