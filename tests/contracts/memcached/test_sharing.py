"""A memcached is full, others write to it; our threads and forks share one cache."""

import gc
import multiprocessing
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import memcache
import pytest

from backends.testing.cache import CacheThatEvicts
from backends.testing.cache_rivals import open_cache, value_of
from coupon.domain.errors import BackendRejected, BackendUnavailable

pytestmark = pytest.mark.services


def test_what_this_server_finds_too_large_is_rejected(start):
    cache = open_cache(start("-I", "128k", "-o", "slab_chunk_max=64").url)
    with pytest.raises(BackendRejected, match="too large"):
        cache.put("k", b"x" * 200_000, 60)
    with pytest.raises(BackendRejected, match="too large"):
        cache.add("k", b"x" * 200_000, 60)
    assert cache.get("k") is None
    assert cache.add("k", b"v", 60)
    assert value_of(cache, "k") == b"v"
    cache.close()


def test_a_full_server_is_not_taken_for_a_rival(start):
    cache = open_cache(start("-M", "-m", "2").url)

    def fill():
        for number in range(100):
            assert cache.add(f"k{number}", b"x" * 400_000, 60)

    with pytest.raises(BackendUnavailable, match="out of memory"):
        fill()
    assert value_of(cache, "k0") == b"x" * 400_000
    cache.close()


class TestMemcachedThatEvicts(CacheThatEvicts):
    @pytest.fixture
    def small(self, start):
        cache = open_cache(start("-m", "2").url)
        yield cache
        cache.close()


def test_a_server_that_refuses_new_entries_evicts_none_unless_it_moves_pages(start):
    refusing = open_cache(start("-M", "-m", "2", "-o", "no_slab_reassign").url)
    assert refusing.evicted("k0") is None
    moving = open_cache(start("-M", "-m", "2").url)
    assert moving.evicted("k0") == 0
    moving.close()
    refusing.close()


def test_evictions_are_counted_after_the_question_however_many_ask_at_once(start):
    cache, others_ask = open_cache(start("-m", "2").url), threading.Event()

    def ask():
        while not others_ask.is_set():
            cache.evicted("k0")

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        try:
            for number in range(300):
                before = cache.evicted("k0")
                cache.put(f"k{number}", b"x" * 400_000, 60)
                assert number < 20 or cache.evicted("k0") > before
        finally:
            others_ask.set()
        assert [one.result() for one in asking] == [None] * 8
    cache.close()


def test_those_who_ask_for_evictions_together_all_hear_that_the_server_has_gone(start):
    server = start()
    cache = open_cache(server.url)
    cache.evicted("k")
    server.kill()

    def ask(_):
        with pytest.raises(BackendUnavailable):
            cache.evicted("k")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(64)))
    cache.close()


def test_a_server_that_was_restarted_with_other_settings_is_asked_for_them_again(start):
    server = start("-M", "-m", "2", "-o", "no_slab_reassign")
    cache = open_cache(server.url)
    assert cache.evicted("k") is None
    server.kill()
    server.start("-m", "2")
    assert cache.evicted("k") == 0
    cache.close()


def test_the_place_of_a_key_is_the_server_that_has_it(start):
    servers = [start(), start()]
    cache = open_cache(f"memcached://127.0.0.1:{servers[0].port},127.0.0.1:{servers[1].port}")
    by_place = {}
    for number in range(50):
        cache.put(f"k{number}", b"v", 60)
        by_place.setdefault(cache.place(f"k{number}"), []).append(f"k{number}")
    assert len(by_place) == 2
    servers[0].kill()
    alive = [place for place, keys in by_place.items() if _answers(cache, keys)]
    assert len(alive) == 1
    cache.close()


def _answers(cache, keys):
    try:
        return [cache.get(key).value for key in keys] == [b"v"] * len(keys)
    except BackendUnavailable:
        return False


executed = []


def execute(code):
    executed.append(code)


class Exploit:
    def __reduce__(self):
        return execute, ("code",)


@pytest.mark.parametrize("value", [Exploit(), {"a": 1}, "text", 7])
def test_what_others_stored_is_neither_executed_nor_believed(server, cache, value):
    other = memcache.Client([f"127.0.0.1:{server.port}"])
    other.set("coupon:k", value, 60)
    other.disconnect_all()
    foreign = cache.get("k")
    assert foreign.value == b""
    assert executed == []
    assert not cache.add("k", b"v", 60)
    assert cache.replace("k", b"v", foreign.token, 60)
    assert value_of(cache, "k") == b"v"


def test_what_others_compressed_is_not_unpacked(server, cache):
    other = memcache.Client([f"127.0.0.1:{server.port}"])
    other.set("coupon:k", b"0" * 1_000_000, 60, min_compress_len=100)
    other.disconnect_all()
    assert cache.get("k").value == b""


def test_the_exploit_would_work():
    pickle.loads(pickle.dumps(Exploit()))
    assert executed.pop() == "code"


def test_a_forked_process_has_connections_of_its_own(cache):
    cache.put("parent", b"parent", 60)
    cache.put("child", b"child", 60)
    child = multiprocessing.get_context("fork").Process(target=_read_often, args=(cache, "child"))
    child.start()
    _read_often(cache, "parent")
    child.join(30)
    assert child.exitcode == 0


def _read_often(cache, key):
    for _ in range(2_000):
        assert value_of(cache, key) == key.encode()


def test_a_thread_has_one_connection_and_closing_reaches_all(server, cache):
    before, asked, done = _settled(server), threading.Barrier(5, timeout=30), threading.Event()

    def ask():
        cache.ping()
        cache.get("k")
        asked.wait()
        done.wait(30)

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask) for _ in range(4)]
        asked.wait()
        assert server.connections() == before + 4
        cache.close()
        _until(lambda: server.connections() == before)
        done.set()
        for result in asking:
            result.result()


def test_the_connection_of_a_thread_goes_with_it(server, cache):
    before, thread = _settled(server), threading.Thread(target=cache.ping)
    thread.start()
    thread.join()
    _until(lambda: server.connections() == before)


def _settled(server):
    """How many connections there are when those of earlier tests have gone."""
    gc.collect()  # what earlier tests' errors hold on to goes now
    counts = [-1, server.connections()]
    while counts[-1] != counts[-2]:
        time.sleep(0.1)
        counts.append(server.connections())
    return counts[-1]


def _until(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
