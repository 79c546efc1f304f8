"""Alive, and ready: each dependency with its status and the milliseconds that it took to answer."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Literal, NamedTuple

import structlog
from flask import Response

from coupon.clock import Clock, monotonic_ms
from coupon.heartbeat import worked_lately
from coupon.living import living
from coupon.ports.backend import Backend, BackendUnavailable
from coupon.ports.cache import Cache
from coupon.settings import Settings
from coupon.web import exchange, schemas
from coupon.web.openapi import Routes
from coupon.web.problems import Problem
from coupon.web.sharing import Shared
from coupon.wiring import Backends

Status = Literal["up", "down", "unknown"]
PATIENCE_S = 2.0
NEEDED_FOR_COMMANDS = ("queue", "store")
log = structlog.get_logger("coupon.web")


class Finding(NamedTuple):
    """What a check found, after how many milliseconds."""

    status: Status
    ms: float


class Readiness:
    """Asks all dependencies at once, and none of them for longer than ``PATIENCE_S``. Each has a thread of its own, so
    that one which hangs takes no other's place."""

    def __init__(self, backends: Backends, heartbeat_file: str) -> None:
        self._checks: dict[str, Callable[[], Status]] = {
            "cache": partial(_ping, backends.cache),
            "queue": partial(_ping, backends.queue),
            "store": partial(_ping, backends.store),
            "search": partial(_ping, backends.search),
            "worker": partial(_worker, backends.cache, heartbeat_file),
        }
        self._threads = {name: ThreadPoolExecutor(1, f"ready-{name}") for name in self._checks}

    def check(self) -> dict[str, Finding]:
        asked = {name: self._threads[name].submit(_timed, name, check) for name, check in self._checks.items()}
        wait(asked.values(), PATIENCE_S)
        return {name: _found(answer) for name, answer in asked.items()}


def health(backends: Backends, settings: Settings, timer: Clock = monotonic_ms) -> Routes:
    routes = Routes("health", __name__, description="For probes")
    readiness = Shared(Readiness(backends, settings.heartbeat_file).check, int(PATIENCE_S * 1000), timer)

    # Probes and what stands between append parameters of their own, and here none could change what is answered: a 422
    # would only take a process that is well for a dead one.
    @routes.serve("GET", "/livez", answers={200: (schemas.Alive, "Alive.")}, any_query=True)
    def livez() -> Response:
        """Alive"""
        return exchange.answer({"status": "alive"})

    @routes.serve(
        "GET",
        "/readyz",
        answers={200: (schemas.Ready, "Commands can be taken.")},
        refusals=("UNAVAILABLE",),
        any_query=True,
    )
    def readyz() -> Response:
        """Ready to take commands, and how each dependency does"""
        found = readiness.get()
        if found is None:
            raise Problem("UNAVAILABLE", "the dependencies have not answered yet")
        dependencies = {name: finding._asdict() for name, finding in found.items()}
        down = [name for name in NEEDED_FOR_COMMANDS if found[name].status != "up"]
        if down:
            raise Problem("UNAVAILABLE", f"down: {', '.join(down)}", dependencies=dependencies)
        return exchange.answer({"status": "ready", "dependencies": dependencies})

    return routes


def _ping(backend: Backend) -> Status:
    backend.ping()
    return "up"


def _worker(cache: Cache, heartbeat_file: str) -> Status:
    """Up when any worker that could work gave a sign lately: in the cache, or, without one, on this machine."""
    try:
        return "up" if living(cache) else "down"
    except BackendUnavailable:
        return "up" if worked_lately(heartbeat_file) else "unknown"


def _timed(name: str, check: Callable[[], Status]) -> Finding:
    began = time.perf_counter()
    try:
        status = check()
    except Exception as error:  # a check must never take the others with it
        log.warning("dependency down", dependency=name, error=str(error))
        status = "down"
    return Finding(status, round((time.perf_counter() - began) * 1000, 1))


def _found(answer: "Future[Finding]") -> Finding:
    if answer.done():
        return answer.result()
    answer.cancel()  # not begun yet: earlier ones hang; do not pile up behind them
    return Finding("down", PATIENCE_S * 1000)
