"""Servers that answer without end: the time for an answer holds, and so does the memory."""

import gc
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest

from backends.deadline_socket import DeadlineSocket
from backends.testing.timing import unavailable_within
from coupon.ports.cache import Cache
from coupon.ports.search import Query, Search
from coupon.ports.store import Store
from coupon.runtime.wiring import open_backend

HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Elastic-Product: Elasticsearch\r\n"
PIECE = b"x" * 65_536
ENDLESS = {
    "content": (HTTP + b"Content-Length: 1000000000000\r\n\r\n", PIECE),
    "chunks": (HTTP + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + PIECE + b"\r\n"),
    "short chunks": (HTTP + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000),
    "a chunk": (HTTP + b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n", PIECE),
    "less than nothing": (HTTP + b"Content-Length: -1\r\n\r\n", PIECE),
    "headers": (HTTP, b"X-More: and more\r\n" * 1_000),
    "a header": (HTTP + b"X-More: ", PIECE),
    "trailers": (HTTP + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-More: and more\r\n" * 1_000),
}
"""How an answer begins, and what comes then, again and again."""
MEMORY_MAX = 150_000_000


@pytest.fixture
def endless() -> Iterator[Callable[[bytes, bytes], str]]:
    """Starts a server that answers whatever it is asked like that: its address."""
    listening, done = [], threading.Event()

    def answer(connection: socket.socket, begin: bytes, piece: bytes) -> None:
        with suppress(OSError), connection:
            connection.recv(65_536)
            connection.sendall(begin)
            while not done.is_set():
                connection.sendall(piece)

    def serve(listener: socket.socket, begin: bytes, piece: bytes) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0], begin, piece), daemon=True).start()

    def start(begin: bytes, piece: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listening.append(listener)
        threading.Thread(target=serve, args=(listener, begin, piece), daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    done.set()
    for listener in listening:
        listener.close()


@pytest.fixture
def in_bounded_memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MEMORY_MAX


@pytest.mark.usefixtures("in_bounded_memory")
@pytest.mark.parametrize("kind", ENDLESS)
def test_a_search(endless, kind):
    with closing(open_backend(Search, f"elasticsearch://{endless(*ENDLESS[kind])}?timeout_s=0.5")) as search:

        def find():
            gc.collect()  # of an earlier try that was too late
            search.find(Query(user_id="ann"), 10)

        unavailable_within(1.0, find)


@pytest.mark.usefixtures("in_bounded_memory")
@pytest.mark.parametrize("kind", ENDLESS)
def test_a_store(endless, kind):
    url = f"dynamodb://{endless(*ENDLESS[kind])}?timeout_s=0.5"
    with closing(open_backend(Store, url)) as store:

        def get():
            gc.collect()  # of an earlier try that was too late
            store.get_many(["A" * 19])

        unavailable_within(1.5, get)


@pytest.mark.usefixtures("in_bounded_memory")
@pytest.mark.parametrize(
    ("begin", "piece"), [(b"VALUE ", PIECE), (b"", PIECE), (b"VALUE coupon:k 0 500000 1\r\n", b"x")]
)
def test_a_cache(endless, begin, piece):
    with closing(open_backend(Cache, f"memcached://{endless(begin, piece)}?timeout_s=0.2")) as cache:
        unavailable_within(0.5, lambda: cache.get("k"))


@pytest.fixture
def pair() -> Iterator[tuple[DeadlineSocket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener, DeadlineSocket() as ours:
        ours.connect(listener.getsockname())
        with listener.accept()[0] as theirs:
            yield ours, theirs


def test_what_is_there_when_the_time_is_over_may_be_taken_and_no_more(pair):
    ours, theirs = pair
    theirs.sendall(bytes(1_000))
    while len(socket.socket.recv(ours, 1_000, socket.MSG_PEEK)) < 1_000:
        time.sleep(0.001)
    ours.settimeout(0.001)
    time.sleep(0.01)
    assert len(ours.recv(600)) == 600
    theirs.sendall(bytes(1_000))
    assert len(ours.recv(600)) == 400
    with pytest.raises(TimeoutError):
        ours.recv(600)


def test_an_answer_has_so_many_bytes_and_no_more_and_the_next_as_many_again(pair):
    ours, theirs = pair
    ours.answer_max = 1_000
    for _ in range(2):
        ours.settimeout(10)
        theirs.sendall(bytes(1_000))
        buffer, taken = bytearray(2_000), 0
        while taken < 1_000:
            taken += ours.recv_into(buffer)
        with pytest.raises(ConnectionAbortedError, match="more than 1000 bytes"):
            ours.recv(1)


def test_without_a_timeout_nothing_is_counted(pair):
    ours, theirs = pair
    ours.answer_max = 10
    ours.settimeout(None)
    theirs.sendall(bytes(100))
    assert len(ours.recv(100)) == 100
