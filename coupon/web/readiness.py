"""The readiness check: the status of each dependency, and the milliseconds that it took to answer."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Literal, NamedTuple

import structlog

from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendUnavailable
from coupon.domain.topics import command_topics
from coupon.ports.backend import Backend
from coupon.ports.queue import Queue
from coupon.ports.store import Store
from coupon.runtime.diagnostics import Symptom, missing, of_age, of_queue, of_store, of_workers, oldest_s, unread
from coupon.runtime.heartbeat import worked_lately
from coupon.runtime.own_thread import OwnThread
from coupon.runtime.settings import Settings
from coupon.runtime.wiring import Backends
from coupon.runtime.worker_registry import living

Status = Literal["up", "down", "unknown"]
PATIENCE_S = 2.0
log = structlog.get_logger("coupon.web")


class Finding(NamedTuple):
    """The result of a check and its duration in milliseconds. ``problems`` are sentences that anyone may read."""

    status: Status
    ms: float
    problems: list[str]


Findings = dict[str, Finding]
"""By the dependency's name."""


class Checked(NamedTuple):
    """The status of a dependency, and its symptoms. A dependency that is up may have some."""

    status: Status
    symptoms: Sequence[Symptom] = ()


class Readiness:
    """Checks all dependencies in parallel, and waits for each ``PATIENCE_S`` at most.

    Each check has a thread of its own, so a check that hangs delays no other.
    """

    def __init__(self, backends: Backends, settings: Settings) -> None:
        self._checks: dict[str, Callable[[], Checked]] = {
            "cache": partial(_ping, backends.cache),
            "queue": partial(_queue, backends.queue, settings.topics),
            "store": partial(_store, backends.store),
            "search": partial(_ping, backends.search),
            "worker": partial(_worker, backends, settings),
        }
        self._threads = {name: OwnThread(f"ready-{name}") for name in self._checks}

    def check(self) -> Findings:
        futures = {name: self._threads[name].submit(_timed, name, check) for name, check in self._checks.items()}
        wait(futures.values(), PATIENCE_S)
        return {name: _finding(future) for name, future in futures.items()}


def _ping(backend: Backend) -> Checked:
    backend.ping()
    return Checked("up")


def _queue(queue: Queue, layout: str) -> Checked:
    """Down when a topic of commands is missing: no command can be accepted then."""
    queue.ping()
    symptoms = of_queue(queue, layout)
    is_whole = missing(queue, layout).isdisjoint(command_topics(layout))
    return Checked("up" if is_whole else "down", symptoms)


def _store(store: Store) -> Checked:
    """Up when the store can be read: that is enough to accept commands."""
    store.ping()
    return Checked("up", of_store(store))


def _worker(backends: Backends, settings: Settings) -> Checked:
    """Up when each topic has a worker with a fresh heartbeat that could work.

    The heartbeats are in the cache. Without a cache, the heartbeat file of this machine is read.
    """
    age = of_age(oldest_s(backends.queue, settings.topics))
    try:
        signs = living(backends.cache, CodeDeriver(settings.secret)).values()
    except BackendUnavailable:
        return Checked("up" if worked_lately(settings.heartbeat_file) else "unknown", age)
    status: Status = "down" if unread(signs, settings.topics) else "up"
    return Checked(status, [*of_workers(signs, settings.topics), *age])


def _timed(name: str, check: Callable[[], Checked]) -> Finding:
    began = time.perf_counter()
    try:
        checked = check()
    except Exception as error:  # a bug in one check must not hide the other findings
        log.warning("dependency down", dependency=name, error=str(error))
        checked = Checked("down")
    problems = [symptom.sentence for symptom in checked.symptoms]
    return Finding(checked.status, round((time.perf_counter() - began) * 1000, 1), problems)


def _finding(future: "Future[Finding]") -> Finding:
    if future.done():
        return future.result()
    future.cancel()  # it may not have begun, when an earlier one hangs: checks must not pile up behind that
    return Finding("down", PATIENCE_S * 1000, [])
