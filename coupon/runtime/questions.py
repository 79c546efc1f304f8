"""What has to be asked at a scrape, because no process counts it: lag, dead letters, living workers, coupons by state.

Each question has a thread of its own, and its answer is kept for some seconds: all who ask meanwhile share it. Without
an answer in time its values are left out, and ``coupon_answered`` is 0. A slow answer is shown by a later scrape.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import Future, wait
from functools import partial
from typing import NamedTuple

import structlog

from coupon.domain.clock import Clock, monotonic_ms, now_ms
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendError
from coupon.domain.topics import DEAD_LETTERS, work_topics
from coupon.ports.cache import Cache
from coupon.ports.queue import Queue
from coupon.ports.search import Query, Search
from coupon.ports.store import Store
from coupon.runtime import metrics
from coupon.runtime.diagnostics import PROBE, backlogs
from coupon.runtime.instruments import Gauge, Labels
from coupon.runtime.own_thread import OwnThread
from coupon.runtime.settings import Settings
from coupon.runtime.wiring import Backends
from coupon.runtime.worker_registry import Sign, living

PATIENCE_MS = 2_000
"""A scrape waits for an answer until so long after its question."""
KEPT_MS, COUNT_KEPT_MS = 2_000, 30_000
"""To count all coupons is work for search."""
SHARE = 50
"""An answer is also kept for so many times as long as it took: a slow question takes 2 % of a server at most."""
Values = dict[Gauge, dict[Labels, float]]
log = structlog.get_logger("coupon.metrics")


class _Answer(NamedTuple):
    """``values`` is None when there was none."""

    values: Values | None
    fresh_until: int


class Question:
    """Asked by one thread at a time. ``ask`` raises BackendError when there is no answer."""

    def __init__(self, name: str, ask: Callable[[], Values], kept_ms: int, timer: Clock) -> None:
        self.name, self._ask, self._kept_ms, self._timer = name, ask, kept_ms, timer
        self._thread = OwnThread(f"question-{name}")
        self._lock = threading.Lock()
        self._asked: tuple[int, Future[_Answer]] | None = None

    def asked(self) -> "tuple[int, Future[_Answer]]":
        """The answer that is fresh, or on its way, and since when; where there is neither, the question is asked."""
        with self._lock:
            if self._asked is None or self._is_stale(self._asked[1]):
                self._asked = self._timer(), self._thread.submit(self._answer)
            return self._asked

    def _is_stale(self, asked: "Future[_Answer]") -> bool:
        return asked.done() and asked.result().fresh_until <= self._timer()

    def _answer(self) -> _Answer:
        began, values = self._timer(), None
        try:
            values = self._ask()
        except BackendError as error:
            log.info("not answered", question=self.name, error=str(error))
        except Exception as error:  # a bug in one question must not hide the other answers
            log.error("unexpected error", question=self.name, exc_info=error)
        now = self._timer()
        return _Answer(values, now + max(self._kept_ms, SHARE * (now - began)))


class Questions:
    """Those of one web process."""

    def __init__(self, backends: Backends, settings: Settings, clock: Clock = now_ms, timer: Clock = monotonic_ms):
        topics, code_deriver = work_topics(settings.topics), CodeDeriver(settings.secret)
        asks: dict[str, Callable[[], Values]] = {
            "queue": partial(_queue, backends.queue, topics, clock),
            "cache": partial(_workers, backends.cache, code_deriver, topics),
            "store": partial(_store, backends.store),
            "search": partial(_search, backends.search),
        }
        self._timer = timer
        self._questions = [Question(name, ask, KEPT_MS, timer) for name, ask in asks.items()]
        self._questions.append(Question("count", partial(_count, backends.search), COUNT_KEPT_MS, timer))

    def answers(self) -> Values:
        """The values of all that is answered in time."""
        asked = [(question.name, *question.asked()) for question in self._questions]
        values: Values = {metrics.ANSWERED: {}}
        for name, since, answer in asked:
            wait([answer], max(0, since + PATIENCE_MS - self._timer()) / 1000)
            answered = answer.result().values if answer.done() else None
            values[metrics.ANSWERED][(name,)] = float(answered is not None)
            values |= answered or {}
        return values


def _queue(queue: Queue, topics: Collection[str], clock: Clock) -> Values:
    found = backlogs(queue, list(topics), clock)
    begins, ends = queue.begins([DEAD_LETTERS]), queue.ends([DEAD_LETTERS])
    return {
        metrics.LAG: {(topic,): backlog.messages for topic, backlog in found.items()},
        metrics.OLDEST_S: {
            (topic,): backlog.oldest_s or 0.0
            for topic, backlog in found.items()
            if backlog.oldest_s is not None or not backlog.messages
        },
        metrics.DEAD_LETTERS: {(): sum(end - begins[position] for position, end in ends.items())},
    }


def _workers(cache: Cache, code_deriver: CodeDeriver, topics: Collection[str]) -> Values:
    signs = living(cache, code_deriver).values()
    left_alone = Counter(position.rpartition("/")[0] for sign in signs for position in sign.left_alone)
    return {
        metrics.WORKERS: {(topic,): _readers(signs, topic) for topic in topics},
        metrics.WORKERS_FAILING: {(): sum(sign.failure is not None for sign in signs)},
        metrics.DEFERRED: {(): sum(sign.waiting for sign in signs)},
        metrics.LEFT_ALONE: {(topic,): left_alone[topic] for topic in topics},
    }


def _readers(signs: Collection[Sign], topic: str) -> int:
    return sum(topic in sign.topics for sign in signs)


def _store(store: Store) -> Values:
    """Only whether it answers."""
    store.get_many([PROBE.code])
    return {}


def _search(search: Search) -> Values:
    """Only whether it answers, as for a list of nobody's: a circuit breaker closes after it."""
    search.find(Query(user_id=""), 1)
    return {}


def _count(search: Search) -> Values:
    free, issued, used = search.count()
    return {metrics.COUPONS: {("free",): free, ("issued",): issued, ("used",): used}}
