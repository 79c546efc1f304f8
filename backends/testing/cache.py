"""What every cache must do. Subclass ``CacheContract``, give it the fixtures, and pytest runs it:

    class TestMyCache(CacheAcrossProcesses, CacheContract):
        @pytest.fixture
        def url(self) -> str: ...       # a fresh, empty cache

        @pytest.fixture
        def gone_url(self) -> str: ...  # a cache whose server is away

``CacheAcrossProcesses`` (cache_rivals.py) is for caches that several processes share, ``CacheThatEvicts`` for those of
limited memory, ``CacheOnAClock`` for those whose clock a test may set.
"""

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import pytest

from backends.testing.cache_failures import CacheFailures
from backends.testing.cache_rivals import RIVALS, act, open_cache, race, token_of, value_of
from backends.testing.interleaving import meet, moments
from backends.testing.timing import Clock
from coupon.ports.cache import Cache, Write

DAY_S = 86_400
MANY = 100


class CacheContract(CacheFailures):
    @pytest.fixture
    def cache(self, url: str) -> Iterator[Cache]:
        cache = open_cache(url)
        yield cache
        cache.close()

    def test_a_key_that_was_never_written_is_missing(self, cache: Cache) -> None:
        assert cache.get("k") is None

    @pytest.mark.parametrize("value", [b"v", b"", bytes(range(256)), b"END\r\nVALUE k 0 1\r\n", b"x" * 512 * 1024])
    def test_a_value_comes_back_byte_for_byte(self, cache: Cache, value: bytes) -> None:
        assert cache.add("added", value, 60)
        assert value_of(cache, "added") == value
        cache.put("put", value, 60)
        assert value_of(cache, "put") == value
        assert cache.replace("put", value, token_of(cache, "put"), 60)
        assert value_of(cache, "put") == value

    @pytest.mark.parametrize("key", ["k" * 200, "".join(map(chr, range(0x21, 0x7F)))], ids=["longest", "all letters"])
    def test_every_allowed_key_is_taken(self, cache: Cache, key: str) -> None:
        assert cache.add(key, b"v", 60)
        assert cache.replace(key, b"w", token_of(cache, key), 60)
        assert cache.remove(key, token_of(cache, key))
        cache.put(key, b"x", 60)
        cache.delete_many([key])
        assert cache.get(key) is None

    def test_a_key_always_has_the_same_place(self, cache: Cache) -> None:
        places = {cache.place(f"k{number}") for number in range(100)}
        assert {cache.place(f"k{number}") for number in range(100)} == places
        assert all(isinstance(place, str) for place in places)

    def test_nothing_was_evicted_from_a_cache_with_room(self, cache: Cache) -> None:
        before = cache.evicted("k")
        cache.put("k", b"v", 60)
        assert cache.evicted("k") == before

    def test_add_leaves_what_is_there(self, cache: Cache) -> None:
        assert cache.add("k", b"first", 60)
        before = cache.get("k")
        assert not cache.add("k", b"second", 60)
        assert not cache.add("k", b"first", 60)
        assert cache.get("k") == before

    def test_of_many_keys_it_gets_those_that_are_there(self, cache: Cache) -> None:
        keys = [f"k{number}" for number in range(MANY)]
        assert cache.get_many(keys) == cache.get_many([]) == {}
        for key in keys[::2]:
            cache.put(key, key.encode(), 60)
        assert cache.get_many(keys) == {key: cache.get(key) for key in keys[::2]}

    def test_many_are_written_each_on_its_own_condition(self, cache: Cache) -> None:
        keys = [f"k{number}" for number in range(MANY)]
        stale = []
        for key in keys[::2]:
            cache.put(key, b"stale", 60)
            stale.append(token_of(cache, key))
        for key in keys[::4]:
            cache.put(key, b"changed", 60)
        tokens = cache.write_many([Write(key, b"added", 60) for key in keys]).tokens
        assert [token is None for token in tokens] == [number % 2 == 0 for number in range(MANY)]
        assert tokens[1::2] == [token_of(cache, key) for key in keys[1::2]]
        writes = [Write(key, b"replaced", 60, token) for key, token in zip(keys[::2], stale, strict=True)]
        tokens = cache.write_many(writes).tokens
        assert [token is None for token in tokens] == [number % 2 == 0 for number in range(len(tokens))]
        values = [(b"changed", b"added", b"replaced", b"added")[number % 4] for number in range(MANY)]
        assert [value_of(cache, key) for key in keys] == values

    def test_after_many_writes_others_are_read(self, cache: Cache) -> None:
        key, other = "k", _key_beside(cache, "k")
        assert cache.write_many([Write(key, b"v", 60)], [other]) == ([token_of(cache, key)], {})
        cache.put(other, b"w", 60)
        assert cache.write_many([Write(key, b"x", 60)], [other]) == ([None], {other: cache.get(other)})
        assert value_of(cache, key) == b"v"
        (token,), others = cache.write_many([Write(key, b"y", 60, token_of(cache, key))], [other, f"{other}-none"])
        assert others == {other: cache.get(other)}
        assert cache.replace(key, b"z", token, 60)
        assert cache.write_many([]) == ([], {})

    def test_of_many_an_entry_of_the_longest_value_holds_up_none(self, cache: Cache) -> None:
        large = b"x" * 512 * 1024
        tokens, _ = cache.write_many([Write("a", large, 60), Write("b", b"v", 60), Write("c", large, 60)])
        assert None not in tokens
        assert [cached.value for cached in cache.get_many("abc").values()] == [large, b"v", large]

    def test_put_stores_whatever_is_there(self, cache: Cache) -> None:
        cache.put("k", b"first", 60)
        stale = token_of(cache, "k")
        cache.put("k", b"second", 60)
        assert value_of(cache, "k") == b"second"
        assert not cache.replace("k", b"third", stale, 60)

    def test_a_write_gives_the_token_of_its_entry(self, cache: Cache) -> None:
        added = cache.add("k", b"v", 60)
        assert added == token_of(cache, "k")
        replaced = cache.replace("k", b"w", added, 60)
        assert replaced == token_of(cache, "k") != added
        assert cache.add("k", b"x", 60) is cache.replace("k", b"x", added, 60) is None
        assert cache.remove("k", replaced)

    def test_reading_leaves_a_token_valid(self, cache: Cache) -> None:
        cache.put("k", b"v", 60)
        token = token_of(cache, "k")
        cache.get("k")
        cache.get("other")
        assert cache.replace("k", b"w", token, 60)

    def test_replace_needs_the_token_of_the_last_write(self, cache: Cache) -> None:
        cache.put("k", b"v", 60)
        stale = token_of(cache, "k")
        assert cache.replace("k", b"w", stale, 60)
        before = cache.get("k")
        assert not cache.replace("k", b"x", stale, 60)
        assert cache.get("k") == before

    def test_a_write_of_the_same_bytes_makes_a_token_stale(self, cache: Cache) -> None:
        cache.put("k", b"v", 60)
        stale = token_of(cache, "k")
        assert cache.replace("k", b"v", stale, 60)
        before = cache.get("k")
        assert not cache.replace("k", b"v", stale, 60)
        assert not cache.remove("k", stale)
        assert cache.get("k") == before

    def test_a_token_is_of_one_key(self, cache: Cache) -> None:
        cache.put("k", b"v", 60)
        cache.put("other", b"v", 60)
        assert not cache.replace("other", b"w", token_of(cache, "k"), 60)
        assert not cache.remove("other", token_of(cache, "k"))
        assert cache.get("other") is not None

    def test_a_token_does_not_outlive_its_entry(self, cache: Cache) -> None:
        cache.put("k", b"v", 60)
        stale = token_of(cache, "k")
        assert cache.remove("k", stale)
        assert cache.add("k", b"v", 60)
        assert not cache.replace("k", b"w", stale, 60)
        assert not cache.remove("k", stale)
        cache.delete_many(["k"])
        assert cache.add("k", b"v", 60)
        assert not cache.replace("k", b"w", stale, 60)

    def test_replacing_or_removing_what_is_missing_does_nothing(self, cache: Cache) -> None:
        cache.put("k", b"v", 60)
        token = token_of(cache, "k")
        cache.delete_many(["k"])
        assert not cache.replace("k", b"w", token, 60)
        assert not cache.remove("k", token)
        assert cache.get("k") is None

    def test_what_was_removed_can_be_added_again(self, cache: Cache) -> None:
        cache.put("k", b"v", 60)
        assert cache.remove("k", token_of(cache, "k"))
        assert cache.get("k") is None
        assert cache.add("k", b"w", 60)
        assert value_of(cache, "k") == b"w"

    def test_many_are_deleted_at_once_and_missing_ones_are_fine(self, cache: Cache) -> None:
        keys = [f"k{number}" for number in range(1_200)]
        for key in [*keys[:3], keys[-1], "other"]:
            cache.put(key, b"v", 60)
        cache.delete_many(iter(keys))
        cache.delete_many(keys)
        cache.delete_many([])
        assert [cache.get(key) for key in [*keys[:3], keys[-1]]] == [None] * 4
        assert cache.get("other") is not None

    def test_a_lifetime_is_in_seconds(self, cache: Cache) -> None:
        lifetimes = {"a second": 1, "over five minutes": 310, "29 days": 29 * DAY_S, "30 days": 30 * DAY_S}
        for name, ttl_s in lifetimes.items():
            key = name.replace(" ", "-")
            cache.put(f"put-{key}", b"v", ttl_s)
            assert cache.add(f"add-{key}", b"v", ttl_s)
            cache.put(f"replace-{key}", b"v", 60)
            assert cache.replace(f"replace-{key}", b"v", token_of(cache, f"replace-{key}"), ttl_s)
        deadline = time.monotonic() + 5
        for method in ("put", "add", "replace"):
            while cache.get(f"{method}-a-second") is not None:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            for key in ("over-five-minutes", "29-days", "30-days"):
                assert cache.get(f"{method}-{key}") is not None

    def test_a_token_of_one_thread_is_good_in_another(self, cache: Cache) -> None:
        cache.put("k", b"v", 60)
        stale = token_of(cache, "k")
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(cache.replace, "k", b"w", stale, 60).result()
            assert not thread.submit(cache.replace, "k", b"x", stale, 60).result()
            token = thread.submit(token_of, cache, "k").result()
        assert not cache.remove("k", stale)
        assert cache.remove("k", token)

    @pytest.mark.parametrize("pair", RIVALS + [pair[::-1] for pair in RIVALS if pair[0] != pair[1]], ids="-".join)
    def test_a_rival_that_comes_in_at_any_moment_is_before_or_after(self, cache: Cache, pair: tuple[str, str]) -> None:
        def laid_out(key: str) -> list[Callable[[], bool]]:
            token = None
            if "add" not in pair:
                cache.put(key, b"start", 60)
                token = token_of(cache, key)
            return [partial(act, cache, method, key, b"%d" % me, token) for me, method in enumerate(pair)]

        for moment in moments(laid_out("alone")[0]):
            won = meet(moment, *laid_out(f"k{moment}"))
            cached = cache.get(f"k{moment}")
            if "put" in pair:
                assert cached is not None
                assert cached.value == b"%d" % pair.index("put"), f"the put is undone, at moment {moment}"
            else:
                assert sum(won) == 1, f"{won} won, at moment {moment}"
                winner = won.index(True)
                assert (cached and cached.value) == (None if pair[winner] == "remove" else b"%d" % winner)

    @pytest.mark.parametrize("pair", [("add", "add"), ("replace", "replace"), ("remove", "remove")], ids="-".join)
    def test_of_two_threads_one_wins(self, cache: Cache, pair: tuple[str, str]) -> None:
        barrier, interval = Barrier(2, timeout=30), sys.getswitchinterval()
        sys.setswitchinterval(1e-6)  # let them meet in the middle of a method
        try:
            with ThreadPoolExecutor(2) as threads:
                wrong = race(threads, lambda: (cache, barrier), pair)
        finally:
            sys.setswitchinterval(interval)
        assert wrong == []

    def test_threads_read_nothing_but_their_own_answers(self, cache: Cache) -> None:
        def ask(thread: int) -> None:
            for number in range(100):
                key, value = f"{thread}-{number}", f"{thread}/{number}".encode()
                assert cache.get(key) is None
                assert cache.add(key, value, 60)
                assert value_of(cache, key) == value

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask, range(8)))


class CacheThatEvicts:
    """For caches that evict: a subclass gives ``small``, one whose server has room for a few megabytes."""

    def test_an_eviction_is_counted_before_its_entry_is_missing(self, small: Cache) -> None:
        keys, before = list[str](), small.evicted("k-0")
        assert before is not None
        while len(small.get_many(keys)) == len(keys):
            assert len(keys) < MANY, "nothing was evicted"
            keys.append(f"k-{len(keys)}")
            small.put(keys[-1], bytes(300_000), 60)
        counted = small.evicted("k-0")
        assert counted is not None
        assert counted > before


class CacheOnAClock:
    """For caches with an injectable clock: a subclass gives ``timed``, a fresh cache that reads ``clock``."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.mark.parametrize("ttl_s", [1, 59, 60, 310, 3_600, 30 * DAY_S])
    def test_an_entry_lives_for_its_seconds_and_no_longer(self, timed: Cache, clock: Clock, ttl_s: int) -> None:
        assert timed.add("added", b"v", ttl_s)
        timed.put("put", b"v", ttl_s)
        timed.put("replaced", b"v", 5)
        assert timed.replace("replaced", b"w", token_of(timed, "replaced"), ttl_s)
        clock.now += ttl_s - 0.5
        assert [timed.get(key) is None for key in ("added", "put", "replaced")] == [False] * 3
        clock.now += 0.5
        assert [timed.get(key) is None for key in ("added", "put", "replaced")] == [True] * 3

    def test_what_has_expired_is_missing_to_every_method(self, timed: Cache, clock: Clock) -> None:
        timed.put("k", b"v", 310)
        token = token_of(timed, "k")
        clock.now += 310
        assert not timed.replace("k", b"w", token, 60)
        assert not timed.remove("k", token)
        assert timed.add("k", b"x", 60)
        assert value_of(timed, "k") == b"x"
        assert token_of(timed, "k") != token


def _key_beside(cache: Cache, key: str) -> str:
    """Another key, of the same server."""
    return next(other for other in (f"o{number}" for number in range(10_000)) if cache.place(other) == cache.place(key))
