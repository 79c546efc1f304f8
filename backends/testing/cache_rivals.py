"""Threads and processes that want the same entry at the same moment."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from threading import Barrier
from typing import Any

from backends.testing.forking import forked
from coupon.ports.cache import Cache, Write
from coupon.runtime.wiring import open_backend

ROUNDS = 100
RIVALS = [("add", "add"), ("replace", "replace"), ("remove", "remove"), ("remove", "replace")]
"""Of the two methods one succeeds, on the same entry."""
RIVALS += [("add", "put"), ("replace", "put"), ("remove", "put")]
"""Whatever comes first, the put is what stays."""


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

    def test_a_clock_that_was_wrong_when_an_entry_was_written_makes_it_live_no_longer(
        self, cache: Cache, url: str
    ) -> None:
        with _processes(1, url, -7_200) as behind, _processes(1, url, 7_200) as ahead:
            wrong = {"behind": behind, "ahead": ahead}
            for put in [process.submit(_put, f"{name}-short", 1) for name, process in wrong.items()]:
                put.result(timeout=60)
            for name, process in wrong.items():
                process.submit(_put, f"{name}-long", 60).result(timeout=60)
            deadline = time.monotonic() + 10
            while cache.get_many(f"{name}-short" for name in wrong):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            for name, process in wrong.items():
                assert value_of(cache, f"{name}-long") == b"v"
                assert process.submit(_get, f"{name}-long").result(timeout=60) is not None
                assert process.submit(_get, f"{name}-short").result(timeout=60) is None

    def test_of_two_processes_one_wins(self, cache: Cache, url: str) -> None:
        with _processes(2, url) as processes:
            assert [race(processes, _here, pair) for pair in RIVALS] == [[]] * len(RIVALS)

    def test_a_cache_that_was_used_before_a_fork_works_on_both_sides_of_it(self, cache: Cache) -> None:
        cache.put("k", b"v", 60)
        token = token_of(cache, "k")

        def child() -> None:
            for number in range(50):
                assert value_of(cache, "k") == b"v"
                assert cache.add(f"child-{number}", b"c", 60)

        with forked(child):
            for number in range(50):
                assert value_of(cache, "k") == b"v"
                assert cache.add(f"parent-{number}", b"p", 60)
        assert len(cache.get_many(f"{side}-{number}" for side in ("child", "parent") for number in range(50))) == 100
        assert cache.replace("k", b"w", token, 60)


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


def race(rivals: Executor, arena: Callable[[], tuple[Cache, Barrier]], pair: tuple[str, str]) -> list[str]:
    """What two rivals did that no order of the two methods explains. Each does its own at the same moments."""
    results: list[Future[list[bool]]] = [rivals.submit(_run, arena, pair, me) for me in (0, 1)]
    wins = list(zip(*(result.result(timeout=120) for result in results), strict=True))
    if "put" not in pair:
        return [f"{pair}, {number}: {won} won" for number, won in enumerate(wins) if sum(won) != 1]
    return [f"{pair}, {number}: the put is undone" for number, won in enumerate(wins) if not won[1]]


def _run(arena: Callable[[], tuple[Cache, Barrier]], pair: tuple[str, str], me: int) -> list[bool]:
    """Whether this rival won each round: when it puts, whether its value is there in the end. The first one lays the
    key out."""
    cache, barrier = arena()
    method, value = pair[me], b"%d" % me
    wins, token = [], None
    for number in range(ROUNDS):
        key = f"{'-'.join(pair)}-{number}"
        if me == 0 and "add" not in pair:
            cache.put(key, b"start", 60)
        barrier.wait()
        if method in ("replace", "remove"):
            token = token_of(cache, key)
        barrier.wait()
        won = act(cache, method, key, value, token)
        barrier.wait()
        cached = cache.get(key)
        if method == "put":
            won = cached is not None and cached.value == value
        elif won and "put" not in pair:
            assert (cached is None) if method == "remove" else (cached is not None and cached.value == value)
        wins.append(won)
    return wins


def act(cache: Cache, method: str, key: str, value: bytes, token: Any) -> bool:
    """Whether it was stored, or removed."""
    match method:
        case "add":
            return cache.add(key, value, 60) is not None
        case "replace":
            return cache.replace(key, value, token, 60) is not None
        case "remove":
            return cache.remove(key, token)
        case "write_many":
            return cache.write_many([Write(key, value, 60, token)]).tokens != [None]
    cache.put(key, value, 60)
    return True
