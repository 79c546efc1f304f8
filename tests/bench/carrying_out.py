"""What two workers carry out on the real servers, beside what the emulator makes of the same writes when they are ready
to be sent (``bare.Emulator``).

The rates are told by the workers' own log, from the end of the first part to the end of the last.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from statistics import quantiles

import requests

from coupon.model import Coupon, Kind, create, transition
from coupon.ports.queue import Message
from coupon.ports.search import Query, Search
from coupon.service import CommandService, Given
from coupon.settings import Settings
from coupon.topics import LAYOUTS
from coupon.wire import encode_command
from coupon.wiring import Backends
from tests.bench.bare import Emulator
from tests.bench.figure import Figure, cpu_s
from tests.bench.place import Place, opened
from tests.bench.web_cpu import FIRST, LAST
from tests.coupons import a_command, a_creation
from tests.e2e.deployment import ROOT, Deployment, eventually, rss_peak_mb

ROUNDS = 5
WORKERS = 2
"""While one waits for the store, the other one may wait for search."""
ORIGINAL = "the original"
YARDSTICK = "the emulator's own maximum"
A_ROUND, BACKLOG, IMPORTED = 8_000, 30_000, 100_000
LATENCY_S, CLIENTS, SAMPLED = 15, 8, 40


def figures(place: Place) -> list[Figure]:
    emulator, environ = Emulator(place.services.dynamodb), place.on_services()
    with opened(environ) as (loaded, backends), Deployment(environ, workers=WORKERS) as running:
        bench = Bench(loaded, backends, running)
        found = [*rates(bench, emulator)]
        issued = found[1].ours
        found += latencies(bench, sorted(issued)[len(issued) // 2] / 2)
        found += [*backlog(bench, emulator), imported(bench, emulator, place.new_folder())]
        peaks = [rss_peak_mb(pid) for pid in bench.pids]
        return [*found, Figure("memory of a worker after all this", "MB", at_most=150, ours=peaks)]


class Bench:
    """A running service, and what there is to do for its worker."""

    def __init__(self, loaded: Settings, backends: Backends, running: Deployment) -> None:
        self.backends, self.running = backends, running
        self.service = CommandService(backends, loaded)
        self.pids = [worker.pid for worker in running.workers]
        self._topics = LAYOUTS[loaded.topics]
        self._log = running.folder / "worker.log"

    def carried_out_a_second(self, number: int, publish: Iterator[None]) -> float:
        """Publish while the workers are stopped, let them go on, and wait until all is done."""
        begin = self._log.stat().st_size
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            next(publish)
        finally:
            for pid in self.pids:
                os.kill(pid, signal.SIGCONT)
        told: list[tuple[float, int]] = []
        deadline = time.monotonic() + 180
        while sum(done for _, done in told) < number:
            assert time.monotonic() < deadline, f"{told[-1:]}: not done in time"
            time.sleep(0.1)
            told = list(progress(self._log, begin))
        (first_at, first), *_, (last_at, _) = sorted(told)
        return (sum(done for _, done in told) - first) / (last_at - first_at)

    def creations(self, number: int) -> Iterator[None]:
        codes = self._new_codes(number)
        self.service.create_given([Given((code,), FIRST, LAST) for code in codes], "bench")
        yield

    def issues(self, coupons: Sequence[Coupon]) -> Iterator[None]:
        commands = [
            a_command(
                Kind.ISSUE,
                self.service.mint.operation("bench", None),
                previous=coupon.last_operation,
                code=coupon.code,
                user_id=f"user {number // 5}",
                previous_at=coupon.history[-1].at,
            )
            for number, coupon in enumerate(coupons)
        ]
        topic = self._topics[Kind.ISSUE]
        self.backends.queue.publish([Message(topic, c.code, encode_command(c)) for c in commands])
        yield

    def coupons(self, number: int) -> list[Coupon]:
        """So many, in the store."""
        coupons = [create(a_creation(amount=number), code) for code in self._new_codes(number)]
        for first in range(0, number, 5_000):
            self.backends.store.save_many(coupons[first : first + 5_000])
        return coupons

    def applied_at(self) -> dict[str, float]:
        """When each operation was, by the worker's log."""
        lines = (json.loads(line) for line in self._log.read_text().splitlines() if '"applied"' in line)
        return {operation: _at(line) for line in lines for operation in line["operations"]}

    def _new_codes(self, number: int) -> list[str]:
        return list(self.service.mint.codes(self.service.mint.operation("bench", None), 0, number))


def progress(log: Path, begin: int) -> Iterator[tuple[float, int]]:
    """When each part was done, and how many commands it had."""
    with log.open() as file:
        file.seek(begin)
        for line in file:
            told = json.loads(line)
            if told["event"] == "created":
                yield _at(told), sum(told["operations"].values())
            elif told["event"] == "applied":
                yield _at(told), len(told["operations"])


def rates(bench: Bench, emulator: Emulator) -> Iterator[Figure]:
    creations = Figure("creations of one carried out", "1/s", YARDSTICK, at_least=0.7)
    issues = Figure("issues carried out", "1/s", YARDSTICK, at_least=0.7)
    for _ in range(ROUNDS):
        coupons = bench.coupons(A_ROUND)
        creations.against.append(emulator.writes_a_second(coupons))
        creations.ours.append(bench.carried_out_a_second(A_ROUND, bench.creations(A_ROUND)))
        issues.against.append(emulator.writes_a_second([_issued(coupon) for coupon in coupons]))
        issues.ours.append(bench.carried_out_a_second(A_ROUND, bench.issues(coupons)))
    yield creations
    yield issues
    yield Figure("creations of one carried out", "1/s", ORIGINAL, at_least=1, of_record=388, ours=creations.ours)
    yield Figure("creations of one carried out, by the second", "1/s", at_least=1_500, ours=creations.ours)


def latencies(bench: Bench, rate: float) -> list[Figure]:
    """From sending a command to its being applied, and to its being found, at that rate."""
    codes = iter([coupon.code for coupon in bench.coupons(int(rate * LATENCY_S * 1.1))])
    sent: dict[str, tuple[float, str]] = {}
    began = time.time() + 0.5
    due, gate = iter(began + number / rate for number in range(int(rate * LATENCY_S))), threading.Lock()

    def client(name: int) -> None:
        with requests.Session() as session:
            while True:
                with gate:
                    at, code = next(due, None), next(codes)
                if at is None:
                    return
                time.sleep(max(0.0, at - time.time()))
                now, user = time.time(), f"client {name} {code}"
                answer = bench.running.put("issue", session, couponCode=code, userId=user)
                if answer.status_code == 202:
                    sent[answer.json()["operationId"]] = (now, user)

    found: dict[str, float] = {}
    clients = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in clients:
        thread.start()
    while any(thread.is_alive() for thread in clients):
        for operation in list(sent)[len(found) * SAMPLED : len(found) * SAMPLED + 1]:
            found[operation] = found_at(bench.backends.search, sent[operation][1]) - sent[operation][0]
        time.sleep(0.05)
    eventually(lambda: sent.keys() <= bench.applied_at().keys(), 30)
    applied = bench.applied_at()
    waited = [(applied[operation] - at) * 1e3 for operation, (at, _) in sent.items()]
    told = f"at {rate:,.0f}/s"
    return [
        Figure(f"from command to applied, p50, {told}", "ms", at_most=25, ours=[quantiles(waited, n=100)[49]]),
        Figure(f"from command to applied, p99, {told}", "ms", at_most=250, ours=[quantiles(waited, n=100)[98]]),
        Figure(f"from command to found, p99, {told}", "s", at_most=1.5, ours=[quantiles(found.values(), n=100)[98]]),
    ]


def found_at(search: Search, user_id: str) -> float:
    while not search.find(Query(user_id=user_id), 1):
        time.sleep(0.02)
    return time.time()


def backlog(bench: Bench, emulator: Emulator) -> list[Figure]:
    """Thirty thousand issues that gathered while the worker was stopped, and callers meanwhile."""
    drained = Figure(f"issues carried out, of a backlog of {BACKLOG:,}", "1/s", YARDSTICK, at_least=0.7)
    coupons = bench.coupons(BACKLOG)
    drained.against.append(emulator.writes_a_second(coupons))
    with Caller(bench) as quiet:
        time.sleep(8)
    before = cpu_s(bench.pids)
    with Caller(bench) as busy:
        drained.ours.append(bench.carried_out_a_second(BACKLOG, bench.issues(coupons)))
    cost = Figure("CPU of the workers for an issue of it", "µs")
    cost.ours.append((cpu_s(bench.pids) - before) / BACKLOG * 1e6)
    slower = Figure("a creation of one meanwhile", "ms", "without a backlog", at_most=1.1)
    slower.ours, slower.against = busy.took_ms, quiet.took_ms
    return [drained, slower, cost]


class Caller:
    """Creates a coupon twenty times a second, and tells how long each took. A context."""

    def __init__(self, bench: Bench) -> None:
        self._url = bench.running.url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._call)
        self.took_ms: list[float] = []

    def __enter__(self) -> "Caller":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _call(self) -> None:
        with requests.Session() as session:
            while not self._stop.wait(0.05):
                began = time.monotonic()
                body = {"amount": 1, "validFrom": FIRST, "expireAt": LAST}
                assert session.post(f"{self._url}/v1/coupons", json=body, timeout=10).status_code == 202
                self.took_ms.append((time.monotonic() - began) * 1e3)


def imported(bench: Bench, emulator: Emulator, folder: Path) -> Figure:
    """By the command line, from a file."""
    figure = Figure(f"rows of an import of {IMPORTED:,}", "1/s", YARDSTICK, at_least=0.7)
    file = folder / "coupons.csv"
    with file.open("wb") as out:
        subprocess.run([sys.executable, "conf/generate_coupons.py", str(IMPORTED)], cwd=ROOT, stdout=out, check=True)
    figure.against.append(emulator.writes_a_second(list(islice(_fresh(bench), A_ROUND * 2))))
    told = json.loads(bench.running.coupon("import", "--json", str(file), timeout=600).stdout)
    assert told["new"] == IMPORTED, told
    figure.ours.append(told["rowsPerSecond"])
    figure.against.append(emulator.writes_a_second(list(islice(_fresh(bench), A_ROUND * 2))))
    return figure


def _fresh(bench: Bench) -> Iterable[Coupon]:
    mint = bench.service.mint
    return (create(a_creation(), code) for code in mint.codes(mint.operation("bench", None), 0, IMPORTED))


def _issued(coupon: Coupon) -> Coupon:
    issue = a_command(Kind.ISSUE, "i" * 20, code=coupon.code, user_id="user 1")
    return transition(coupon, issue)._replace(revision=coupon.revision + 1)


def _at(line: dict[str, str]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()
