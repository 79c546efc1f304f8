"""Which faults are injected: endless plans, one a lane, that follow from the seed alone."""

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

WORKER, WEB, MASTER = "worker", "gunicorn worker", "gunicorn master"


class Servers(NamedTuple):
    """The server in each role."""

    queue: str = "kafka"
    store: str = "dynamodb"
    search: str = "elasticsearch"
    cache: str = "memcached"

    @property
    def links(self) -> list[str]:
        return [f"{side}-{server}" for side in ("web", "worker") for server in self]


SERVERS = Servers()
SEARCHES = ("elasticsearch", "mongodb")
FORGET, STALL_S = "forget with stopped workers", 10
"""The cache is killed and comes back empty in the middle of so many seconds in which all workers are stopped."""
LINKS = SERVERS.links
LINK_FAULTS = ["delay", "black hole", "lose replies", "slice", "reset", "refuse"]


class Planned(NamedTuple):
    """A fault to come."""

    kind: str
    target: str
    number: int
    """Which of them, where there are several, modulo their number; of a link's delay and slices, how bad."""
    lasts_s: float
    """Until what was hurt is mended: a killed one started again, a stopped one continued, a link healed."""
    pause_s: float
    """After that, before the next."""


Plan = Callable[[random.Random, Servers], Iterator[Planned]]


def kills(chance: random.Random, _: Servers) -> Iterator[Planned]:
    """Of processes: of ten, six workers, two gunicorn workers, two masters."""
    while True:
        for target in _shuffled(chance, [WORKER] * 6 + [WEB] * 2 + [MASTER] * 2):
            yield Planned("kill", target, chance.randrange(12), chance.uniform(0, 3), chance.uniform(3, 12))


def stops(chance: random.Random, _: Servers) -> Iterator[Planned]:
    """Of processes: zombies, that wake up after others took over."""
    while True:
        for target in _shuffled(chance, [WORKER] * 4 + [WEB] * 2 + [MASTER]):
            yield Planned("stop", target, chance.randrange(12), chance.uniform(1, 30), chance.uniform(4, 16))


def servers(chance: random.Random, used: Servers) -> Iterator[Planned]:
    """Queue, store and cache killed, two stops of any server, and the cache restarted while no worker works, in any
    order; then again."""
    while True:
        kills = [("kill", name) for name in used if name != used.search]
        stops = [("stop", name) for name in chance.sample(used, 2)]
        for kind, target in _shuffled(chance, [*kills, *stops, (FORGET, used.cache)]):
            lasts_s = {"kill": chance.uniform(0, 5), "stop": chance.uniform(1, 15), FORGET: STALL_S}[kind]
            yield Planned(kind, target, 0, lasts_s, chance.uniform(5, 15))


def search(chance: random.Random, used: Servers) -> Iterator[Planned]:
    """Killed, beside the other servers' faults: it takes long to start, and commands do without it."""
    while True:
        yield Planned("kill", used.search, 0, chance.uniform(0, 5), chance.uniform(20, 60))


def links(chance: random.Random, used: Servers) -> Iterator[Planned]:
    """One of the links, or two at once."""
    while True:
        target, other = chance.sample(used.links, 2)
        both = f"{target} {other}" if chance.random() < 0.3 else target
        yield Planned(
            chance.choice(LINK_FAULTS), both, chance.randrange(3), chance.uniform(1, 15), chance.uniform(4, 12)
        )


LANES: dict[str, Plan] = {"kills": kills, "stops": stops, "servers": servers, "search": search, "links": links}


def plan(seed: int, lane: str, servers: Servers = SERVERS) -> Iterator[Planned]:
    """The lane's faults, one after the other."""
    return LANES[lane](random.Random(f"{seed}/{lane}"), servers)


def _shuffled(chance: random.Random, items: list[Any]) -> list[Any]:
    return chance.sample(items, len(items))
