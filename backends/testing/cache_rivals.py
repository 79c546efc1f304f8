"""Threads and processes that want the same entry at the same moment."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from coupon.ports.cache import Cache
from coupon.runtime.wiring import open_backend

ROUNDS = 200


def open_cache(url: str) -> Cache:
    return open_backend(Cache, url)  # type: ignore[type-abstract]


def token_of(cache: Cache, key: str) -> Any:
    """The token of what the key holds."""
    cached = cache.get(key)
    assert cached is not None
    return cached.token


def value_of(cache: Cache, key: str) -> bytes:
    """What the key holds, which must not be missing."""
    cached = cache.get(key)
    assert cached is not None
    return cached.value


class CacheAcrossProcesses:
    """For caches that several processes share."""

    def test_another_process_sees_what_this_one_wrote(self, cache: Cache, url: str) -> None:
        cache.put("k", b"v", 60)
        token = token_of(cache, "k")
        with _processes(1, url) as process:
            cached = process.submit(_get, "k").result(timeout=60)
            assert (cached.value, cached.token) == (b"v", token)
            assert process.submit(_replace, "k", b"w", token).result(timeout=60)
            assert not process.submit(_replace, "k", b"x", token).result(timeout=60)
        assert not cache.replace("k", b"y", token, 60)
        assert value_of(cache, "k") == b"w"

    @pytest.mark.parametrize("ahead_s", [-7_200, 7_200])
    def test_a_clock_that_was_wrong_when_an_entry_was_written_makes_it_live_no_longer(
        self, cache: Cache, url: str, ahead_s: int
    ) -> None:
        with _processes(1, url, ahead_s) as process:
            process.submit(_put, "short", 1).result(timeout=60)
            process.submit(_put, "long", 60).result(timeout=60)
            deadline = time.monotonic() + 10
            while cache.get("short") is not None:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert value_of(cache, "long") == b"v"
            assert process.submit(_get, "long").result(timeout=60) is not None
            assert process.submit(_get, "short").result(timeout=60) is None

    @pytest.mark.parametrize("method", ["add", "replace", "remove"])
    def test_of_two_processes_one_wins(self, cache: Cache, url: str, method: str) -> None:
        with _processes(2, url) as processes:
            assert race(processes, _here, method) == [1] * ROUNDS


_process: dict[str, Any] = {}
"""In a process that a test started: its cache, and the barrier that it shares with its rival."""


def _processes(count: int, url: str, ahead_s: int = 0) -> Executor:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count, timeout=60)
    return ProcessPoolExecutor(count, context, initializer=_begin, initargs=(url, barrier, ahead_s))


def _begin(url: str, barrier: Any, ahead_s: int) -> None:
    """``ahead_s``: how wrong its clock is, for all modules that are imported later. Backends are, when opened."""
    time.time = lambda: time.clock_gettime(time.CLOCK_REALTIME) + ahead_s
    _process.update(cache=open_cache(url), barrier=barrier)


def _here() -> tuple[Cache, Barrier]:
    return _process["cache"], _process["barrier"]


def _get(key: str) -> Any:
    return _process["cache"].get(key)


def _put(key: str, ttl_s: int) -> None:
    _process["cache"].put(key, b"v", ttl_s)


def _replace(key: str, value: bytes, token: Any) -> bool:
    replaced: bool = _process["cache"].replace(key, value, token, 60) is not None
    return replaced


def race(rivals: Executor, arena: Callable[[], tuple[Cache, Barrier]], method: str) -> list[int]:
    """How many of two rivals won, for each round."""
    results: list[Future[list[bool]]] = [rivals.submit(_run, arena, method, first) for first in (True, False)]
    return [sum(wins) for wins in zip(*(result.result(timeout=120) for result in results), strict=True)]


def _run(arena: Callable[[], tuple[Cache, Barrier]], method: str, first: bool) -> list[bool]:
    """One rival: does what the other does, on the same key at the same moment. The first one lays the key out."""
    cache, barrier = arena()
    wins, token, value = [], None, b"first" if first else b"second"
    for number in range(ROUNDS):
        key = f"round-{number}"
        if first and method != "add":
            cache.put(key, b"start", 60)
        barrier.wait()
        if method != "add":
            token = token_of(cache, key)
            barrier.wait()
        match method:
            case "add":
                won = cache.add(key, value, 60) is not None
            case "replace":
                won = cache.replace(key, value, token, 60) is not None
            case _:
                won = cache.remove(key, token)
        wins.append(won)
        barrier.wait()
        cached = cache.get(key)
        assert (cached is None) if method == "remove" else (cached is not None and (cached.value == value) == won)
    return wins
