"""The links of a chaos run do to a connection what they say, and nothing else."""

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import ClassVar

import pytest

from backends.testing.links import Link, Links
from backends.testing.timing import takes_less_than

BIG = bytes(range(256)) * 40_000  # 10 MB


class Echo(socketserver.BaseRequestHandler):
    """Says back what it hears, until it has heard all."""

    heard: ClassVar[list[bytes]] = []

    def handle(self) -> None:
        with suppress(ConnectionError):
            while data := self.request.recv(65_536):
                Echo.heard.append(data)
                self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@pytest.fixture
def server() -> Iterator[Server]:
    Echo.heard = []
    with Server(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def link(server: Server) -> Iterator[Link]:
    with Links() as links:
        yield links.open("test-echo", server.server_address[1])


@pytest.fixture
def client(link: Link) -> Iterator[socket.socket]:
    with connected(link) as client:
        assert ask(client, b"hello") == b"hello"
        Echo.heard.clear()
        yield client


def connected(link: Link) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", link.port), 2)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def ask(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    return exactly(client, len(data))


def exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = client.recv(size - len(data))
        assert part, "the connection ended before the answer did"
        data += part
    return data


def heard_within(seconds: float, data: bytes) -> bool:
    deadline = time.monotonic() + seconds
    while b"".join(Echo.heard) != data and time.monotonic() < deadline:
        time.sleep(0.005)
    return b"".join(Echo.heard) == data


def is_silent(client: socket.socket, seconds: float = 0.1) -> bool:
    client.settimeout(seconds)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(2)
    return False


def is_reset(client: socket.socket) -> bool:
    try:
        client.recv(1)
    except ConnectionResetError:
        return True
    return False


def a_new_one_is_reset(link: Link) -> bool:
    try:
        with connected(link) as client:
            return is_reset(client)
    except ConnectionResetError:  # before the client noticed that it was connected
        return True


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 1
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_by_itself_a_link_changes_nothing_of_much_data_and_of_a_half_closed_connection(link: Link) -> None:
    with connected(link) as client:
        received: list[bytes] = []

        def read() -> None:
            while data := client.recv(1_000_000):
                received.append(data)

        reader = threading.Thread(target=read)
        reader.start()
        client.sendall(BIG)
        client.shutdown(socket.SHUT_WR)
        reader.join(5)
        assert b"".join(received) == BIG
    assert (link.counts.connections, link.counts.resets) == (1, 0)
    assert link.counts.bytes_up == link.counts.bytes_down == len(BIG)


def test_a_server_that_ends_a_connection_ends_it_for_the_client(link: Link, client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""


def test_a_client_that_does_not_read_holds_the_server_back_and_loses_nothing(link: Link) -> None:
    with connected(link) as client:
        writer = threading.Thread(target=lambda: client.sendall(BIG))
        writer.start()
        time.sleep(0.1)
        assert exactly(client, len(BIG)) == BIG
        writer.join()


def test_without_a_server_a_connection_is_reset_at_once() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as none:
        port = none.getsockname()[1]
    with Links() as links:
        assert a_new_one_is_reset(links.open("test-nobody", port))


def test_a_connection_that_one_end_resets_is_reset_for_the_other(link: Link, client: socket.socket) -> None:
    client.sendall(BIG)
    client.close()  # with answers unread: that is a RST
    with connected(link) as other:
        assert ask(other, b"still well") == b"still well"
    until(lambda: link.counts.resets == 1)


def test_delayed_data_arrives_so_much_later_each_way_and_does_not_queue_up(link: Link, client: socket.socket) -> None:
    link.delay(50)

    def talk() -> None:
        for n in range(20):
            client.sendall(b"%02d" % n)
            time.sleep(0.001)
        assert exactly(client, 40) == b"".join(b"%02d" % n for n in range(20))

    assert takes_less_than(0.25, talk) >= 0.1
    link.heal()

    def talk_at_once() -> None:
        assert ask(client, b"soon") == b"soon"

    takes_less_than(0.05, talk_at_once)


def test_a_delay_that_becomes_shorter_changes_no_order(link: Link, client: socket.socket) -> None:
    link.delay(80)
    client.sendall(b"first ")
    time.sleep(0.01)
    link.delay(0)
    assert ask(client, b"second")[:6] == b"first "


def test_a_black_hole_keeps_connections_and_what_was_said_arrives_when_it_is_healed(
    link: Link, client: socket.socket
) -> None:
    link.black_hole()
    client.sendall(b"held")
    with connected(link) as new:
        new.sendall(b"held")
        assert is_silent(client)
        assert is_silent(new)
        assert Echo.heard == []
        link.heal()
        assert exactly(client, 4) == exactly(new, 4) == b"held"


def test_a_request_whose_client_gave_up_comes_late_out_of_a_black_hole(link: Link, client: socket.socket) -> None:
    link.black_hole()
    client.sendall(b"late")
    client.close()
    assert not heard_within(0.1, b"late")
    link.heal()
    assert heard_within(1, b"late")


def test_a_connection_to_a_server_that_died_in_a_black_hole_is_reset_when_it_is_healed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, Links() as links:
        link = links.open("test-dying", server.getsockname()[1])
        with connected(link) as client:
            link.black_hole()
            server.accept()[0].close()
            server.close()
            with connected(link) as new:
                assert is_silent(client)
                assert is_silent(new)
                link.heal()
                assert client.recv(1) == b""
                assert is_reset(new)


def test_a_request_whose_reply_is_lost_is_applied(link: Link, client: socket.socket) -> None:
    link.lose_replies()
    client.sendall(b"done")
    assert is_reset(client)
    assert heard_within(1, b"done")
    link.heal()
    with connected(link) as new:
        assert ask(new, b"again") == b"again"


def test_a_single_reply_is_lost_behind_those_that_are_spared(link: Link, client: socket.socket) -> None:
    link.lose_reply(spared=1)
    assert ask(client, b"spared") == b"spared"
    client.sendall(b"done")
    assert is_reset(client)
    assert heard_within(1, b"spareddone")
    assert link.counts.lost == 1
    with connected(link) as new:
        assert ask(new, b"again") == b"again"


def test_connections_that_are_open_and_round_trips_are_counted(link: Link, client: socket.socket) -> None:
    before = link.counts.round_trips
    for number in range(3):
        assert ask(client, b"%d" % number) == b"%d" % number
    with connected(link) as new:
        assert ask(new, b"new") == b"new"
        assert link.present == 2
    until(lambda: link.present == 1)
    link.delay(300)
    client.sendall(b"both parts")
    time.sleep(0.05)
    assert ask(client, b" are one") == b"both parts"[:8]
    assert link.counts.round_trips == before + 3 + 1 + 1


def test_slices_arrive_one_by_one(link: Link, client: socket.socket) -> None:
    link.slice(10, 10)
    started = time.monotonic()
    assert ask(client, bytes(100)) == bytes(100)
    assert time.monotonic() - started > 0.09
    assert max(map(len, Echo.heard)) == 10


def test_slices_that_are_on_their_way_arrive_at_once_when_it_is_healed(link: Link, client: socket.socket) -> None:
    link.slice(1, 300)
    client.sendall(b"slowly")
    assert heard_within(1, b"s")
    link.heal()
    assert exactly(client, 6) == b"slowly"


def test_a_reset_is_of_all_present_connections_and_of_no_later_one(link: Link, client: socket.socket) -> None:
    with connected(link) as other:
        assert ask(other, b"hello") == b"hello"
        link.reset()
        assert is_reset(client)
        assert is_reset(other)
    with connected(link) as new:
        assert ask(new, b"hello") == b"hello"


def test_while_it_refuses_present_and_new_connections_are_reset(link: Link, client: socket.socket) -> None:
    link.refuse()
    assert is_reset(client)
    assert a_new_one_is_reset(link)
    link.heal()
    with connected(link) as new:
        assert ask(new, b"hello") == b"hello"
