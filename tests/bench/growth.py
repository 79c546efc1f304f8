"""What an issue, a use and a user's list cost on SQLite files as the stored coupons become more, beside the same at
10,000 coupons.

Through ``wsgi_app``, and for a command through the worker too: the cost is of both together. The worker's own
calls save and index the coupons, a thousand at a time, in twenty passes over all codes, each in their order. In the
order of a creation, every row would be on a page of its own of each index. Half of them are held, 20 by a user.
"""

import gc
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from flask import Flask

from coupon.applying.batch import PART_MAX
from coupon.domain.codes import CodeDeriver
from coupon.domain.model import Coupon, Day, HistoryEntry, Kind
from coupon.runtime.settings import Settings
from coupon.runtime.wiring import Backends
from coupon.web import create_app
from coupon.worker.worker import Worker, join
from tests.bench.figure import ROUNDS, Figure
from tests.bench.place import Place, opened, quiet
from tests.bench.web_cpu import wsgi_environ
from tests.bench.worker_cpu import drain

FEW = 10_000
STEPS = (100_000, 1_000_000)
LONG = 10_000_000
PASSES = 20
REQUESTS = 100
HELD = 20
FIRST, AT = Day("2020-01-01"), 1_700_000_000_000
BATCH, YEAR_MS = 100_000, 31_536_000_000
NAMES = ("an issue", "a use", "a user's list")


def figures(place: Place) -> list[Figure]:
    """Up to a million."""
    return compared(place, STEPS)


def long_figures(place: Place) -> list[Figure]:
    """At ten million: many minutes until they are stored, and about 6 GB of disk."""
    return compared(place, (LONG,))


def compared(place: Place, steps: Sequence[int]) -> list[Figure]:
    """Each step beside the few, in turns."""
    taken: list[Figure] = []
    with quiet(), site(place) as few, site(place) as many:
        few.grow(FEW)
        for step in steps:
            many.grow(step)
            for name in NAMES:
                few.cost(name)  # opens what is opened once
                many.cost(name)
            pairs = {name: _pair(name, step) for name in NAMES}
            for _ in range(ROUNDS):
                for name, pair in pairs.items():
                    for figure, cost, against in zip(pair, many.cost(name), few.cost(name), strict=True):
                        figure.ours.append(cost)
                        figure.against.append(against)
            taken += [figure for pair in pairs.values() for figure in pair]
    return taken


def _pair(name: str, step: int) -> tuple[Figure, Figure]:
    """By CPU time, and by the clock."""
    title, yardstick = f"{name} at {step:,} coupons on SQLite", f"at {FEW:,}"
    return Figure(f"CPU of {title}", "µs", yardstick, at_most=1.5), Figure(title, "µs", yardstick, at_most=1.5)


@contextmanager
def site(place: Place) -> Iterator["Site"]:
    with opened(place.embedded()) as (loaded, backends):
        yield Site(loaded, backends)


class Site:
    """A service in this process, which is asked about coupons chosen at random."""

    def __init__(self, loaded: Settings, backends: Backends) -> None:
        self._backends = backends
        self._app, self._worker = create_app(loaded, backends), Worker(backends, loaded, join(backends, loaded))
        self._code_deriver = CodeDeriver(loaded.secret)
        self._random = random.Random(1)
        self._size = 0
        self._taken: set[int] = set()

    def grow(self, size: int) -> None:
        """Store and search are filled side by side, each by a process of its own."""
        fork = get_context("fork")
        saves = (self._backends.store.save_many, self._backends.search.index_many)
        fillers = [fork.Process(target=fill, args=(save, self._code_deriver, self._size, size)) for save in saves]
        for filler in fillers:
            filler.start()
        for filler in fillers:
            filler.join()
            assert filler.exitcode == 0
        self._size = size

    def cost(self, name: str) -> tuple[float, float]:
        """CPU and clock of one request, µs."""
        match name:
            case "an issue":
                return self._cost(self._commands("issue", 0), REQUESTS)
            case "a use":
                return self._cost(self._commands("use", 1), REQUESTS)
        return self._cost([self._list() for _ in range(REQUESTS)], 0)

    def _cost(self, requests: list[dict[str, Any]], messages: int) -> tuple[float, float]:
        gc.collect()
        gc.disable()
        cpu, clock = time.process_time(), time.perf_counter()
        for environ in requests:
            send(self._app, environ)
        drain(self._worker, messages)
        cost = time.process_time() - cpu, time.perf_counter() - clock
        gc.enable()
        return cost[0] / len(requests) * 1e6, cost[1] / len(requests) * 1e6

    def _commands(self, command: str, odd: int) -> list[dict[str, Any]]:
        """Of free coupons, or of held ones, that no command was sent for."""
        bodies = [{"couponCode": self._code(self._pick(odd)), "userId": "ann"} for _ in range(REQUESTS)]
        if command == "use":
            bodies = [{"couponCode": body["couponCode"]} for body in bodies]
        return [wsgi_environ(("PUT", f"/v1/coupons/{command}", body)) for body in bodies]

    def _list(self) -> dict[str, Any]:
        return wsgi_environ(("GET", f"/v1/users/{holder(self._random.randrange(self._size))}/coupons", {}))

    def _pick(self, odd: int) -> int:
        while (number := self._random.randrange(self._size) // 2 * 2 + odd) in self._taken:
            pass
        self._taken.add(number)
        return number

    def _code(self, number: int) -> str:
        return next(self._code_deriver.codes("growth", number, 1))


def send(app: Flask, environ: dict[str, Any]) -> None:
    """Anything but a success is an error, and a list of the wrong length."""

    def start(status: str, _headers: object, _error: object = None) -> Any:
        assert status.startswith(("200", "202")), status

    answer = app.wsgi_app(environ, start)
    body = b"".join(answer)
    answer.close()  # type: ignore[attr-defined]
    assert environ["REQUEST_METHOD"] == "PUT" or len(json.loads(body)["items"]) > HELD // 2


def fill(save: Callable[[Sequence[Coupon]], object], code_deriver: CodeDeriver, first: int, end: int) -> None:
    """Save the coupons of these numbers."""
    for numbers in passes(first, end):
        pairs = sorted(zip(code_deriver.codes("growth", numbers.start, len(numbers)), numbers, strict=True))
        for some in range(0, len(pairs), PART_MAX):
            save([coupon(code, number) for code, number in pairs[some : some + PART_MAX]])


def passes(first: int, end: int) -> list[range]:
    step = -(-(end - first) // PASSES)
    return [range(begin, min(begin + step, end)) for begin in range(first, end, step)]


def coupon(code: str, number: int) -> Coupon:
    """Of a creation of 100,000 with a last day of its own; every other one was issued within the next year."""
    batch = number // BATCH
    at = AT + batch * 1_000_003
    history = (HistoryEntry("birth", Kind.CREATE, at, None, "bench"),)
    user, issued_at = None, None
    if number % 2:
        user, issued_at = holder(number), at + number * 7_919 % YEAR_MS
        history += (HistoryEntry("gift", Kind.ISSUE, issued_at, user, "bench"),)
    return Coupon(
        code=code, valid_from=FIRST, expire_at=Day(f"{2050 + batch % 50}-12-31"), created_at=at,
        modified_at=issued_at or at, creation_size=BATCH, user_id=user, issued_at=issued_at, used_at=None,
        version=len(history), revision=1, history=history,
    )  # fmt: skip


def holder(number: int) -> str:
    return f"user{number // (2 * HELD)}"
