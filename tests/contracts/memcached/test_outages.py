"""memcached dies, freezes and comes back: nothing of it may look like a miss, or like another question's answer."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from backends.cache import memcached_client
from backends.testing.cache_failures import METHODS
from backends.testing.cache_rivals import open_cache, token_of, value_of
from backends.testing.timing import unavailable_within
from coupon.domain.errors import BackendUnavailable
from tests.contracts.memcached.server import TIMEOUT_S

pytestmark = pytest.mark.services


def refuses_everything(cache, token, within_s):
    """Every method raises BackendUnavailable, the slowest within so many seconds."""
    for method in METHODS.values():
        unavailable_within(within_s, lambda method=method: method(cache, token))


def knows_that_it_is_silent(cache):
    """Every method raises BackendUnavailable without asking."""
    for method in METHODS.values():
        with pytest.raises(BackendUnavailable, match="a moment ago"):
            method(cache, 1)


def works_again_by_itself(cache):
    deadline = time.monotonic() + 2
    while True:
        try:
            return cache.ping()
        except BackendUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_killed_server_is_never_taken_for_a_miss(server, cache, thread):
    cache.put("k", b"v", 60)
    token = thread.submit(token_of, cache, "k").result()
    server.kill()
    refuses_everything(cache, token, within_s=TIMEOUT_S / 2)
    thread.submit(refuses_everything, cache, token, within_s=TIMEOUT_S / 2).result()


def test_the_first_call_after_a_restart_works(server, cache, thread):
    cache.put("k", b"v", 60)
    thread.submit(cache.get, "k").result()
    server.kill()
    refuses_everything(cache, 1, within_s=TIMEOUT_S / 2)
    server.start()
    assert cache.get("k") is None
    assert thread.submit(cache.add, "k", b"w", 60).result()
    assert value_of(cache, "k") == b"w"


def test_a_restart_between_two_calls_is_not_noticed(server, cache, thread):
    cache.put("k", b"v", 60)
    thread.submit(cache.get, "k").result()
    server.kill()
    server.start()
    assert cache.add("k", b"w", 60)
    assert thread.submit(value_of, cache, "k").result() == b"w"


def test_a_server_that_answers_again_is_asked_again(server, cache):
    cache.put("k", b"v", 60)
    server.freeze()
    with pytest.raises(BackendUnavailable):
        cache.get("k")
    server.thaw()
    works_again_by_itself(cache)
    assert value_of(cache, "k") == b"v"


def test_one_timeout_is_enough_for_all_threads(server, cache, thread, monkeypatch):
    monkeypatch.setattr(memcached_client, "SILENCE_S", 60)
    cache.put("k", b"v", 60)
    thread.submit(cache.get, "k").result()
    server.freeze()
    with pytest.raises(BackendUnavailable):
        cache.get("k")
    knows_that_it_is_silent(cache)
    thread.submit(knows_that_it_is_silent, cache).result()


def test_a_late_answer_is_not_taken_for_the_next_one(server, cache, monkeypatch):
    monkeypatch.setattr(memcached_client, "SILENCE_S", 0)
    for name in ("a", "b"):
        cache.put(name, name.encode(), 60)
    server.freeze()
    for method in (lambda: cache.get("a"), lambda: cache.put("a", b"late", 60), lambda: cache.delete_many(["c", "d"])):
        with pytest.raises(BackendUnavailable):
            method()
    server.thaw()
    assert value_of(cache, "b") == b"b"
    assert cache.get("c") is None
    assert cache.add("c", b"c", 60)


def test_answers_stay_with_their_questions_while_the_server_freezes_and_thaws(server, monkeypatch):
    monkeypatch.setattr(memcached_client, "SILENCE_S", 0)
    cache = open_cache(f"{server.url}?timeout_s=0.02")
    frozen = done = 0

    def ask(number):
        nonlocal frozen
        key, value = f"k{number}", f"v{number}".encode() * 50
        while not done:
            try:
                cache.put(key, value, 60)
                assert value_of(cache, key) == value
                assert cache.get(f"missing-{number}") is None
                assert not cache.add(key, b"other", 60)
            except BackendUnavailable:
                frozen += 1

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask, number) for number in range(4)]
        for _ in range(10):
            time.sleep(0.05)
            server.freeze()
            time.sleep(0.05)
            server.thaw()
        done = 1
        for result in asking:
            result.result()
    assert frozen > 10
    cache.close()


def test_the_keys_of_a_dead_server_are_not_asked_of_another(start):
    alive, dead = start(), start()
    cache = open_cache(f"memcached://127.0.0.1:{alive.port},127.0.0.1:{dead.port}")
    keys = [f"k{number}" for number in range(100)]
    for key in keys:
        cache.put(key, key.encode(), 60)
    dead.kill()
    there, away = [], []
    for key in keys:
        try:
            there.append(value_of(cache, key))
        except BackendUnavailable:
            away.append(key)
            with pytest.raises(BackendUnavailable):
                cache.add(key, b"elsewhere", 60)
    assert len(there) + len(away) == 100
    assert min(len(there), len(away)) > 20
    with pytest.raises(BackendUnavailable):
        cache.delete_many(keys)
    with pytest.raises(BackendUnavailable):
        cache.ping()
    dead.start()
    assert [cache.get(key) for key in away] == [None] * len(away)
    cache.delete_many(keys)
    assert [cache.get(key) for key in keys] == [None] * 100
    cache.close()
