"""How many entries memcached has evicted for lack of memory.

A reply to ``stats`` costs memcached as much as ten reads, and a web process asks on each miss of a coupon. So threads
that ask at the same time share one reply, which the server sent after each of them had asked.
"""

import time
from collections.abc import Callable, Mapping, Sequence

from coupon.domain.errors import BackendUnavailable
from coupon.ports.group_commit import ForkedGroupCommit

COUNTERS = ("slab_reassign_evictions_nomem", "slab_reassign_busy_deletes", "extstore_objects_evicted")
"""Counters besides ``evictions`` of valid entries that were dropped. Not every server has each of them."""


TOO_LATE = "memcached did not count its evictions in time"


class _Question:
    """One thread's question to one server, and the answer to it."""

    __slots__ = ("counted", "error", "name")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.counted: int | None = None
        self.error: BackendUnavailable | None = BackendUnavailable(TOO_LATE)


class Evictions:
    """The evictions of one cache. Thread-safe, and safe to use on both sides of a fork.

    ``server_of`` names the server that has a key; ``statistics`` asks that server, and raises BackendUnavailable.
    """

    def __init__(
        self,
        server_of: Callable[[bytes], str],
        statistics: Callable[[bytes], Mapping[str, str]],
        timeout_s: float,
    ) -> None:
        self._server_of, self._statistics, self._timeout_s = server_of, statistics, timeout_s
        self._group = ForkedGroupCommit(self._answer)

    def count(self, name: bytes) -> int | None:
        """As ``Cache.evicted``."""
        question = _Question(name)
        try:
            self._group.do(question, time.monotonic() + self._timeout_s)
        except TimeoutError as error:
            raise BackendUnavailable(TOO_LATE) from error
        if question.error is not None:
            raise BackendUnavailable(str(question.error)) from question.error
        return question.counted

    def _answer(self, questions: Sequence[_Question], _deadline: float) -> None:
        by_server: dict[str, list[_Question]] = {}
        for question in questions:
            by_server.setdefault(self._server_of(question.name), []).append(question)
        for asked in by_server.values():
            try:
                counted, error = evictions(self._statistics(asked[0].name)), None
            except BackendUnavailable as unavailable:
                counted, error = None, unavailable
            for question in asked:
                question.counted, question.error = counted, error


def evictions(statistics: Mapping[str, str]) -> int | None:
    """The sum of the counters. None when memcached was started with ``-M -o no_slab_reassign``.

    Then it refuses new entries when memory is full, and moves no pages, which would drop the entries in them. Raises
    BackendUnavailable for an invalid reply."""
    try:
        if statistics.get("setting evictions") == "off" and statistics.get("setting slab_reassign") == "no":
            return None
        return int(statistics["evictions"]) + sum(int(statistics.get(counter, 0)) for counter in COUNTERS)
    except (KeyError, ValueError) as error:
        raise BackendUnavailable(f"memcached does not count its evictions: {error}") from error
