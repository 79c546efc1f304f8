"""Alive, and ready: each dependency with its status and the milliseconds that it took to answer."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Literal, NamedTuple

import structlog
from flask import Response

from coupon.domain.clock import Clock, monotonic_ms
from coupon.domain.codes import CodeDeriver
from coupon.domain.topics import command_topics
from coupon.ports.backend import Backend, BackendUnavailable
from coupon.ports.queue import Queue
from coupon.ports.store import Store
from coupon.runtime.diagnostics import Symptom, missing, of_age, of_queue, of_store, of_workers, oldest_s, unread
from coupon.runtime.heartbeat import worked_lately
from coupon.runtime.settings import Settings
from coupon.runtime.wiring import Backends
from coupon.web import request_io, schemas
from coupon.web.openapi import Routes
from coupon.web.problems import Problem
from coupon.web.single_flight import SingleFlight

Status = Literal["up", "down", "unknown"]
PATIENCE_S = 2.0
NEEDED_FOR_COMMANDS = ("queue", "store")
log = structlog.get_logger("coupon.web")


class Finding(NamedTuple):
    """What a check found, after how many milliseconds; ``problems`` are sentences for anyone."""

    status: Status
    ms: float
    problems: list[str]


class Checked(NamedTuple):
    """Whether a dependency is up, and what is wrong with it nevertheless."""

    status: Status
    symptoms: Sequence[Symptom] = ()


class Readiness:
    """Asks all dependencies at once, and none of them for longer than ``PATIENCE_S``. Each has a thread of its own, so
    that one which hangs takes no other's place."""

    def __init__(self, backends: Backends, settings: Settings) -> None:
        self._checks: dict[str, Callable[[], Checked]] = {
            "cache": partial(_ping, backends.cache),
            "queue": partial(_queue, backends.queue, settings.topics),
            "store": partial(_store, backends.store),
            "search": partial(_ping, backends.search),
            "worker": partial(_worker, backends, settings),
        }
        self._threads = {name: ThreadPoolExecutor(1, f"ready-{name}") for name in self._checks}

    def check(self) -> dict[str, Finding]:
        asked = {name: self._threads[name].submit(_timed, name, check) for name, check in self._checks.items()}
        wait(asked.values(), PATIENCE_S)
        return {name: _found(answer) for name, answer in asked.items()}


def health(backends: Backends, settings: Settings, timer: Clock = monotonic_ms) -> Routes:
    routes = Routes("health", __name__, description="For probes")
    readiness = SingleFlight(Readiness(backends, settings).check, int(PATIENCE_S * 1000), timer)

    # Probes and what stands between append parameters of their own, and here none could change what is answered: a 422
    # would only take a process that is well for a dead one.
    @routes.serve("GET", "/livez", answers={200: (schemas.Alive, "Alive.")}, any_query=True)
    def livez() -> Response:
        """Alive"""
        return request_io.json_response({"status": "alive"})

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
        return request_io.json_response({"status": "ready", "dependencies": dependencies})

    return routes


def _ping(backend: Backend) -> Checked:
    backend.ping()
    return Checked("up")


def _queue(queue: Queue, layout: str) -> Checked:
    """Down without the topics of commands: no command can be taken then."""
    queue.ping()
    symptoms = of_queue(queue, layout)
    is_whole = missing(queue, layout).isdisjoint(command_topics(layout))
    return Checked("up" if is_whole else "down", symptoms)


def _store(store: Store) -> Checked:
    """Up when it can be read: commands are taken then."""
    store.ping()
    return Checked("up", of_store(store))


def _worker(backends: Backends, settings: Settings) -> Checked:
    """Up when each topic has a worker that could work and gave a sign lately: in the cache, or, without one, on this
    machine."""
    age = of_age(oldest_s(backends.queue, settings.topics))
    mint = CodeDeriver(settings.secret)
    try:
        symptoms = of_workers(backends.cache, mint, settings.topics)
    except BackendUnavailable:
        return Checked("up" if worked_lately(settings.heartbeat_file) else "unknown", age)
    return Checked("down" if unread(backends.cache, mint, settings.topics) else "up", [*symptoms, *age])


def _timed(name: str, check: Callable[[], Checked]) -> Finding:
    began = time.perf_counter()
    try:
        checked = check()
    except Exception as error:  # a check must never take the others with it
        log.warning("dependency down", dependency=name, error=str(error))
        checked = Checked("down")
    problems = [symptom.sentence for symptom in checked.symptoms]
    return Finding(checked.status, round((time.perf_counter() - began) * 1000, 1), problems)


def _found(answer: "Future[Finding]") -> Finding:
    if answer.done():
        return answer.result()
    answer.cancel()  # not begun yet: earlier ones hang; do not pile up behind them
    return Finding("down", PATIENCE_S * 1000, [])
