"""Redis as cache and queue beside memcached and Kafka, in turns: what is accepted, and what workers apply.

Everything else is the same: DynamoDB Local and Elasticsearch, the web processes, the load. Redis acknowledges a command
when it is on the disk (``appendfsync always``). Kafka does when it is in the memory of all replicas, here of one.
"""

from contextlib import ExitStack
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
    """A service without workers, one that has some, and commands for each."""

    web: Running
    workers: Running


def figures(place: Place) -> list[Figure]:
    names = "accepted creations of one", "accepted issues and cancels, cached", "issues applied, of a backlog"
    creations, changed, applied = (Figure(f"{name}, on Redis", "1/s", YARDSTICK) for name in names)
    slowest = Figure("p99 of an accepted creation of one, on Redis", "ms", YARDSTICK)
    cost = Figure("CPU of the web processes for a creation of one, on Redis", "µs", YARDSTICK)
    with ExitStack() as stack:
        redis, usual = (_started(stack, place, servers) for servers in (ON_REDIS, USUAL))
        for side in (redis, usual):
            load(_url(side), same("POST", CREATION), WARM_UP_S, place.folder)
            _applied(side)
        for _ in range(ROUNDS):
            for side, taken in ((redis, "ours"), (usual, "against")):
                pids = children(side.web.deployment.process.pid)
                before = cpu_s(pids)
                seen = load(_url(side), same("POST", CREATION), folder=place.folder)
                getattr(cost, taken).append((cpu_s(pids) - before) / seen.answers * 1e6)
                getattr(creations, taken).append(seen.rate)
                getattr(slowest, taken).append(seen.p99_ms)
                getattr(changed, taken).append(_changed(side, place))
                getattr(applied, taken).append(_applied(side))
    return [creations, slowest, cost, changed, applied]


def _started(stack: ExitStack, place: Place, servers: Servers) -> _Side:
    return _Side(_running(stack, place, servers, workers=0), _running(stack, place, servers, workers=WORKERS))


def _running(stack: ExitStack, place: Place, servers: Servers, workers: int) -> Running:
    environ = place.on_services(servers)
    loaded, backends = stack.enter_context(opened(environ))
    return Running(loaded, backends, stack.enter_context(Deployment(environ, workers=workers)))


def _changed(side: _Side, place: Place) -> float:
    cached = [coupon.code for coupon in side.web.stored(CACHED_A_ROUND)]
    issue_and_cancel(side.web.service, cached)
    return load(_url(side), changes(cached, ["issue", "cancel"], place.new_folder())).rate


def _url(side: _Side) -> str:
    return f"{side.web.deployment.url}/v1/coupons"


def _applied(side: _Side) -> float:
    coupons = side.workers.stored(APPLIED_A_ROUND)
    return side.workers.applied_a_second(APPLIED_A_ROUND, lambda: side.workers.publish_issues(coupons))
