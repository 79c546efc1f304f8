"""What no real memcached says on demand: a server that follows a script, at the driver's edge."""

import socket
import threading
from contextlib import contextmanager, suppress

import pytest

from backends.cache import memcached_client
from backends.cache.limits import VALUE_MAX
from backends.testing.cache_failures import METHODS
from backends.testing.cache_rivals import open_cache, value_of
from backends.testing.timing import unavailable_within
from coupon.domain.errors import BackendUnavailable
from coupon.ports.cache import Cached

HANG_UP = b""
FOUND = b"VALUE coupon:k 0 1 7\r\nv\r\nEND\r\n"


@contextmanager
def scripted(*answers):
    """A server that answers commands with these, in turn, and after the last one hangs up at each. Yields a cache that
    asks it, and the commands that came."""
    commands: list[bytes] = []
    script = iter(answers)

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            # The cache may hang up first.
            with suppress(ConnectionError), connection, connection.makefile("rb") as lines:
                while command := lines.readline():
                    commands.append(command.strip())
                    if command.split()[0] in (b"add", b"set", b"cas"):
                        lines.readline()
                    answer = next(script, HANG_UP)
                    if answer == HANG_UP:
                        break
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        cache = open_cache(f"memcached://127.0.0.1:{listening.getsockname()[1]}")
        try:
            yield cache, commands
        finally:
            cache.close()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "answer",
    [
        b"SERVER_ERROR out of memory storing object\r\n",
        b"ERROR Too many open connections\r\n",
        b"CLIENT_ERROR bad data chunk\r\n",
        b"\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"VALUE coupon:k 0 1\r\n",
        b"TOUCHED\r\n",
        HANG_UP,
    ],
)
def test_no_answer_and_an_unknown_one_are_never_a_miss(answer, method):
    with scripted(answer, answer) as (cache, _), pytest.raises(BackendUnavailable):
        METHODS[method](cache, 1)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("get", b"NOT_FOUND\r\n"),
        ("get", b"STORED\r\n"),
        ("add", b"END\r\n"),
        ("replace", b"DELETED\r\n"),
        ("remove", b"END\r\n"),
        ("put", b"NOT_STORED\r\n"),
        ("delete_many", b"STORED\r\n"),
        ("ping", b"END\r\n"),
    ],
)
def test_an_answer_to_another_question_is_not_taken(method, answer):
    with scripted(answer, answer) as (cache, _), pytest.raises(BackendUnavailable):
        METHODS[method](cache, 1)


def test_an_answer_about_another_key_is_not_taken():
    with scripted(FOUND.replace(b":k", b":other")) as (cache, _), pytest.raises(BackendUnavailable):
        cache.get("k")
    with scripted(b"STORED\r\n", FOUND.replace(b":k", b":other")) as (cache, _), pytest.raises(BackendUnavailable):
        cache.add("k", b"v", 60)


@pytest.mark.parametrize("method", METHODS)
def test_a_command_whose_answer_was_lost_is_not_sent_again(method):
    """It may have been applied: the second answer would say that a rival was faster."""
    with scripted(HANG_UP) as (cache, commands):
        with pytest.raises(BackendUnavailable):
            METHODS[method](cache, 1)
        assert len(commands) == len(set(commands))


SETTINGS = b"STAT evictions on\r\nSTAT slab_reassign yes\r\nEND\r\n"


def test_evictions_are_counted_by_one_question_once_the_settings_are_known():
    counted = [b"STAT pid 1\r\nSTAT evictions %d\r\nEND\r\n" % count for count in (7, 8)]
    with scripted(SETTINGS, *counted) as (cache, commands):
        assert [cache.evicted("k"), cache.evicted("k")] == [7, 8]
        assert commands == [b"stats settings", b"stats", b"stats"]


@pytest.mark.parametrize(
    "answer",
    [
        b"SERVER_ERROR out of memory\r\n",
        b"END\r\n",
        b"\r\nEND\r\n",
        b"STAT evictions many\r\nEND\r\n",
        b"STAT pid 1\r\nEND\r\n",
        b"STAT evictions 7\r\n",
        b"STAT evictions 7\r\nEND\r",
        HANG_UP,
    ],
)
def test_what_counts_no_evictions_is_no_answer(answer):
    with scripted(SETTINGS, answer) as (cache, _), pytest.raises(BackendUnavailable):
        cache.evicted("k")


@pytest.mark.parametrize("flags", [1, 2, 4, 8, 16, 255, 65_535, 2**32 - 1])
def test_a_value_of_another_kind_than_ours_is_empty_and_can_be_replaced(flags):
    stored = b"STORED\r\nVALUE coupon:k 0 1 8\r\nw\r\nEND\r\n"
    with scripted(b"VALUE coupon:k %d 1 7\r\nv\r\nEND\r\n" % flags, stored) as (cache, commands):
        assert cache.get("k") == Cached(b"", 7)
        assert cache.replace("k", b"w", 7, 60) == 8
        assert commands[1] == b"cas coupon:k 0 60 1 7"


@pytest.mark.parametrize("size", [VALUE_MAX + 1, 2_000_000_000, 10**30, -1])
def test_a_value_longer_than_any_of_ours_is_not_read_and_can_be_replaced(size):
    stored = b"STORED\r\nVALUE coupon:k 0 1 8\r\nw\r\nEND\r\n"
    with scripted(b"VALUE coupon:k 0 %d 7\r\n" % size + bytes(100_000), stored) as (cache, _):
        assert cache.get("k") == Cached(b"", 7)
        assert cache.replace("k", b"w", 7, 60) == 8


def test_a_write_is_not_taken_for_the_long_value_that_came_after_it():
    with scripted(b"STORED\r\nVALUE coupon:k 0 2000000000 9\r\n" + bytes(100_000), FOUND, FOUND) as (cache, _):
        assert cache.add("k", b"v", 60) == memcached_client.NO_SUCH_TOKEN
        assert value_of(cache, "k") == b"v"


def test_what_follows_an_answer_is_not_taken_for_the_next():
    with scripted(b"STORED\r\nEND\r\n", FOUND) as (cache, _):
        cache.put("k", b"v", 60)
        assert value_of(cache, "k") == b"v"


@pytest.mark.parametrize("length", range(1, len(FOUND)))
def test_half_an_answer_is_no_answer(length):
    with scripted(FOUND[:length]) as (cache, _), pytest.raises(BackendUnavailable):
        cache.get("k")


def test_each_comparison_is_sent_with_its_token():
    with scripted(b"EXISTS\r\n", FOUND, b"STORED\r\n", b"VERSION 1.6\r\n") as (cache, commands):
        assert not cache.replace("k", b"v", 6, 60)
        assert cache.remove("k", 8)
        cache.ping()
    assert commands == [b"cas coupon:k 0 60 1 6", b"gets coupon:k", b"cas coupon:k 0 -1 0 8", b"version"]


@pytest.mark.parametrize("now", [FOUND.replace(b"\r\nv", b"\r\nw"), b"END\r\n"])
def test_what_was_stored_and_overtaken_at_once_has_a_token_that_fits_nothing(now):
    with scripted(b"STORED\r\n", now) as (cache, _):
        token = cache.add("k", b"v", 60)
    assert token is not None
    assert token not in (7, None)


def test_a_server_that_accepts_no_connection_is_given_up_on_in_time(monkeypatch):
    monkeypatch.setattr(memcached_client, "SILENCE_S", 0)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        queue = [socket.socket() for _ in range(4)]
        for connection in queue:
            connection.setblocking(False)
            connection.connect_ex(listening.getsockname())
        cache = open_cache(f"memcached://127.0.0.1:{listening.getsockname()[1]}")
        for method in METHODS.values():
            unavailable_within(1, lambda method=method: method(cache, 1))
        for connection in queue:
            connection.close()
