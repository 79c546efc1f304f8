"""Ours beside PostgreSQL (P on stock gunicorn, P* on ours) and Redis (R* on ours), in turns, in one run.

``make peers`` installs their drivers. The servers are Debian's ``postgresql`` and ``redis-server``.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import requests

from coupon.acceptance.service import CommandService
from coupon.runtime.wiring import Backends
from tests.bench.figure import Figure, cpu_s
from tests.bench.peers.outcomes import FAILED_MAX, Outcomes, outcomes
from tests.bench.peers.servers import OURS, STOCK, hold_in_postgres, missing, postgres, redis, web
from tests.bench.place import Place, opened
from tests.bench.running import stored
from tests.bench.taking import HELD_BY_EACH, held_coupons
from tests.bench.web_cpu import FIRST, LAST
from tests.bench.wrk import load, paths
from tests.e2e.deployment import Deployment, children

ROUNDS, SECONDS, WARM_UP_S = 3, 4, 4
MOST_A_SECOND = {"embedded": 5_000, "real servers": 2_000}
"""More than these issues are not expected of us."""
PEERS_MOST_A_SECOND = 6_000
WORKS = 3
PEERS = {"embedded": 3, "real servers": 2}
"""So many of them are measured: the real servers leave Redis little of the machine."""
WORKERS = {"embedded": 1, "real servers": 1}
WAIT = {"Prefer": "wait=10"}
CREATED = 100_000
HELD, INDEXED_AT_ONCE, USERS_ASKED = 1_000_000, 5_000, 50_000
WARM_UPS = 4
"""Rounds of lists before the first that counts."""
P, P_STAR, R_STAR = "P: PostgreSQL, stock gunicorn", "P*: PostgreSQL, our gunicorn", "R*: Redis, our gunicorn"


class Subject(NamedTuple):
    """One that is measured. ``processes`` are those that do its work, and ``web`` those that answer."""

    name: str
    url: str
    path: str
    codes: Iterator[str]
    most: int
    """Issues in a second for which there are coupons."""
    processes: Callable[[], Sequence[int]]
    web: Callable[[], Sequence[int]]
    is_settled: Callable[[], bool]
    """Whether all that was accepted is applied."""
    hold: Callable[[], None]
    """Makes ``HELD`` coupons, of which each user holds five."""
    lists: str = "/v1/users"


class Ran(NamedTuple):
    """``cpu_us``: of all its processes for a command, until all that was accepted is applied; ``behind_s``: until then
    from the last answer."""

    seen: Outcomes
    cpu_us: float
    web_us: float
    behind_s: float

    @property
    def rate(self) -> float:
        return self.seen.answers / self.seen.seconds

    @property
    def told(self) -> float:
        """Commands a second whose callers know the outcome."""
        return self.seen.applied / self.seen.seconds


def embedded(place: Place) -> list[Figure]:
    return _figures(place, "embedded", place.embedded)


def on_services(place: Place) -> list[Figure]:
    return _figures(place, "real servers", place.on_services)


def _figures(place: Place, name: str, environ: Callable[[], dict[str, str]]) -> list[Figure]:
    lacking = missing()
    if lacking:
        print(f"The peers were not measured. This machine lacks: {', '.join(lacking)} (make peers; apt-get install)")
        return []
    with ExitStack() as stack:
        return _beside(name, _ours(name, environ(), stack), _peers(name, place, stack), place)


def _beside(name: str, ours: Subject, peers: Sequence[Subject], place: Place) -> list[Figure]:
    taken: list[Figure] = []
    for what, connections, headers in (("issues, natural answer", 32, {}), *_waits()):
        rows = [_Rows(name, what, peer.name) for peer in peers]
        _run(ours, place, connections, WARM_UP_S, headers, failed_max=1)
        for _ in range(ROUNDS):
            mine = _run(ours, place, connections, SECONDS, headers)
            for peer, row in zip(peers, rows, strict=True):
                row.add(mine, _run(peer, place, connections, SECONDS, {}))
        for row in rows:
            taken += row.figures(is_awaited=bool(headers))
        share = Figure(f"{name}: {what}: answers 202", "%")
        share.ours = rows[0].share
        taken.append(share)
    memory = [Figure(f"{name}: memory of its processes", "MB", peer.name) for peer in peers]
    taken += _in_turns(memory, ours, peers, _memory_mb, rounds=1)
    taken += _created(name, ours, peers)
    return [*taken, *_lists(name, ours, [peer for peer in peers if peer.name != R_STAR], place)]


def _lists(name: str, ours: Subject, peers: Sequence[Subject], place: Place) -> list[Figure]:
    """Lists of a user's five coupons of a million."""
    figures = [Figure(f"{name}: lists of a user's 5 of {HELD:,}", "1/s", peer.name) for peer in peers]
    for subject in {subject.hold: subject for subject in (ours, *peers)}.values():
        subject.hold()

    def rate(subject: Subject) -> float:
        users = [f"user{number}" for number in range(0, HELD // HELD_BY_EACH, HELD // HELD_BY_EACH // USERS_ASKED)]
        script = paths([f"{subject.lists}/{user}/coupons" for user in users], place.new_folder())
        return load(subject.url, script, SECONDS, place.new_folder()).rate

    for _ in range(WARM_UPS):
        with suppress(AssertionError):  # Elasticsearch merges what was indexed just now, and some lists take too long
            rate(ours)
    return _in_turns(figures, ours, peers, rate)


def _memory_mb(subject: Subject) -> float:
    """Of all its processes, what they share counted once (PSS)."""
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in subject.processes()]
    return sum(int(text.partition("\nPss:")[2].split()[0]) for text in texts) / 1024


def _created(name: str, ours: Subject, peers: Sequence[Subject]) -> list[Figure]:
    """A creation, until the last of its coupons can be issued."""
    figures = [Figure(f"{name}: {CREATED:,} coupons created, until usable", "s", peer.name) for peer in peers]
    return _in_turns(figures, ours, peers, _seconds_to_create)


def _in_turns(
    figures: list[Figure],
    ours: Subject,
    peers: Sequence[Subject],
    take: Callable[[Subject], float],
    rounds: int = ROUNDS,
) -> list[Figure]:
    """The figures, one for each peer, with what was taken of it and of ours in each round."""
    for _ in range(rounds):
        mine = take(ours)
        for peer, figure in zip(peers, figures, strict=True):
            figure.ours.append(mine)
            figure.against.append(take(peer))
    return figures


def _seconds_to_create(subject: Subject) -> float:
    began, body = time.monotonic(), {"amount": CREATED, "validFrom": FIRST, "expireAt": LAST}
    answer = requests.post(f"{subject.url}{subject.path}", json=body, timeout=120)
    answer.raise_for_status()
    while answer.json()["status"] != "applied":
        time.sleep(0.05)
        operation = answer.json()["operationId"]
        answer = requests.get(f"{subject.url}/v1/operations/{operation}", params={"limit": 1}, timeout=10)
    return time.monotonic() - began


def _waits() -> list[tuple[str, int, dict[str, str]]]:
    return [(f"outcome known, {clients} clients", clients, WAIT) for clients in (8, 64)]


class _Rows:
    """The figures of one work beside one peer."""

    def __init__(self, name: str, what: str, peer: str) -> None:
        self.rate = Figure(f"{name}: {what}", "1/s", peer)
        self.p99 = Figure(f"{name}: {what}: p99", "ms", peer)
        self.cpu = Figure(f"{name}: {what}: CPU from request to applied", "µs", peer)
        self.web = Figure(f"{name}: {what}: CPU of the web processes", "µs", peer)
        self.behind = Figure(f"{name}: {what}: applied after the last answer", "s")
        self.share: list[float] = []

    def add(self, ours: Ran, peer: Ran) -> None:
        is_awaited = ours.seen.applied > 0
        self.rate.ours.append(ours.told if is_awaited else ours.rate)
        self.rate.against.append(peer.rate)
        for figure, mine, theirs in (
            (self.p99, ours.seen.p99_ms, peer.seen.p99_ms),
            (self.cpu, ours.cpu_us, peer.cpu_us),
            (self.web, ours.web_us, peer.web_us),
        ):
            figure.ours.append(mine)
            figure.against.append(theirs)
        self.behind.ours.append(ours.behind_s)
        self.share.append(100 * ours.seen.accepted / ours.seen.answers)

    def figures(self, *, is_awaited: bool) -> list[Figure]:
        return [self.rate, self.p99, self.cpu, self.web, *([] if is_awaited else [self.behind])]


def _run(
    subject: Subject,
    place: Place,
    connections: int,
    seconds: int,
    headers: dict[str, str],
    failed_max: float = FAILED_MAX,
) -> Ran:
    codes = list(islice(subject.codes, subject.most * seconds))
    processes, of_web = subject.processes(), subject.web()
    before, web_before = cpu_s(processes), cpu_s(of_web)
    seen = outcomes(
        subject.url, f"{subject.path}/issue", codes, place.new_folder(), connections, seconds, headers, failed_max
    )
    web_s, ended = cpu_s(of_web) - web_before, time.monotonic()
    while not subject.is_settled():
        time.sleep(0.02)
    behind_s = time.monotonic() - ended
    return Ran(seen, (cpu_s(processes) - before) / seen.answers * 1e6, web_s / seen.answers * 1e6, behind_s)


def _peers(name: str, place: Place, stack: ExitStack) -> list[Subject]:
    dsn, server = stack.enter_context(postgres())

    def hold() -> None:
        hold_in_postgres(dsn, HELD, HELD_BY_EACH)

    port, redis_server = stack.enter_context(redis())
    found = []
    all_peers = (
        (P, "postgres_app", STOCK, server, {"PEER_DSN": dsn}),
        (P_STAR, "postgres_app", OURS, server, {"PEER_DSN": dsn}),
        (R_STAR, "redis_app", OURS, redis_server, {"PEER_PORT": str(port)}),
    )
    for peer_name, app, configuration, process, environ in all_peers[: PEERS[name]]:
        peer = stack.enter_context(web(place, app, configuration, process, environ))
        amount = PEERS_MOST_A_SECOND * WORKS * ROUNDS * SECONDS
        codes = iter(_created_by(peer.url, amount, list_codes=app == "postgres_app"))
        processes, of_web = (lambda p=peer: p.processes), (lambda p=peer: p.web)
        most = PEERS_MOST_A_SECOND
        found.append(
            Subject(peer_name, peer.url, "/coupons", codes, most, processes, of_web, lambda: True, hold, "/users")
        )
    return found


def _created_by(url: str, amount: int, *, list_codes: bool) -> list[str]:
    key = f"bench{time.time_ns()}"
    body = {"amount": amount, "validFrom": FIRST, "expireAt": LAST}
    answer = requests.post(f"{url}/coupons", json=body, headers={"Idempotency-Key": key, "X-Caller": "b"}, timeout=120)
    assert answer.status_code == 201, answer.text
    codes: list[str] = []
    while True:
        after = codes[-1] if list_codes and codes else str(len(codes))
        answer = requests.get(f"{url}/batches/b/{key}/codes", params={"after": after, "limit": 10_000}, timeout=30)
        page: list[str] = answer.json()["codes"]
        if not page:
            return codes
        codes += page


def _ours(name: str, environ: dict[str, str], stack: ExitStack) -> Subject:
    loaded, backends = stack.enter_context(opened(environ))
    service = CommandService(backends, loaded)
    amount = MOST_A_SECOND[name] * WORKS * (WARM_UP_S + ROUNDS * SECONDS)
    codes = iter([coupon.code for coupon in stored(service, backends, amount)])
    running = stack.enter_context(Deployment(environ, workers=WORKERS[name]))
    running.create(1)  # the worker works

    def processes() -> list[int]:
        return [*of_web(), *(worker.pid for worker in running.workers)]

    def of_web() -> list[int]:
        return [running.process.pid, *children(running.process.pid)]

    def hold() -> None:
        held = held_coupons(HELD)
        while some := list(islice(held, INDEXED_AT_ONCE)):
            backends.search.index_many(some)
        time.sleep(2)  # until they are found

    most = MOST_A_SECOND[name]
    return Subject(
        name, running.url, "/v1/coupons", codes, most, processes, of_web, lambda: _is_drained(backends), hold
    )


def _is_drained(backends: Backends) -> bool:
    return backends.queue.lag(["commands"], "worker") == 0
