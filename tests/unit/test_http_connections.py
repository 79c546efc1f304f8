"""Our HTTP, against servers that speak it in every way that they may, and worse."""

import os
import ssl

import pytest

from backends.deadline_socket import ANSWER_MAX
from backends.http_connections import HEAD_MAX, BrokenOff, HttpConnections, Response
from backends.testing.timing import TRIES, takes_less_than
from tests.unit.scripted_server import PLAIN, Server

HELLO = Response(200, {"content-type": "text/plain", "content-length": "5"}, b"hello")
GET = b"GET / HTTP/1.1\r\n\r\n"


@pytest.fixture
def serve():
    opened = []

    def start(*answers, server_tls=None, trust=None):
        server = Server(answers, server_tls)
        connections = HttpConnections("127.0.0.1", server.port, trust)
        opened.extend([connections, server])
        return server, connections

    yield start
    for each in opened:
        each.close()


def get(connections, timeout_s=5.0):
    return connections.exchange(GET, timeout_s)


def test_a_connection_serves_many_requests(serve):
    server, connections = serve(PLAIN, PLAIN, PLAIN)
    assert [get(connections) for _ in range(3)] == [HELLO] * 3
    assert server.requests == [GET] * 3
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        [PLAIN[:20], PLAIN[20:60], PLAIN[60:]],
        b"HTTP/1.1 200 OK\r\na:b\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
        [b"HTTP/1.1 200\r\ntransfer-encoding: chunked\r\n", b"\r\n5\r", b"\nhel", b"lo\r\n0\r\nTrailer: 1\r\n\r\n"],
        b"HTTP/1.0 200 OK\r\ncontent-length:  5  \r\n\r\nhello",
    ],
)
def test_a_response_is_read_however_it_is_framed(serve, answer):
    server, connections = serve(answer, PLAIN)
    assert get(connections).body == b"hello"
    assert get(connections).body == b"hello"
    assert server.connections == 1


def test_some_responses_have_no_body_whatever_their_headers_say(serve):
    head = b"HTTP/1.1 404 Not Found\r\nContent-Length: 500\r\n\r\n"
    server, connections = serve(head, b"HTTP/1.1 204 No Content\r\n\r\n", PLAIN)
    assert connections.exchange(b"HEAD / HTTP/1.1\r\n\r\n", 5.0, is_head=True).body == b""
    assert get(connections).body == b""
    assert get(connections).body == b"hello"
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [PLAIN[:20], None],
        [PLAIN[:-1], None],
        PLAIN + b"x",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/2 200\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (ANSWER_MAX + 1),
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n%x\r\n" % ANSWER_MAX,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 3 * HEAD_MAX,
    ],
)
def test_what_is_no_response_breaks_the_connection_off(serve, answer):
    server, connections = serve(answer, PLAIN)
    with pytest.raises(BrokenOff):
        get(connections)
    assert get(connections) == HELLO
    assert server.connections == 2


def test_a_connection_that_the_server_will_close_is_not_used_again(serve):
    server, connections = serve(PLAIN.replace(b"OK\r\n", b"OK\r\nConnection: Close\r\n"), PLAIN)
    assert get(connections).body == b"hello"
    assert get(connections) == HELLO
    assert server.connections == 2


def test_a_connection_that_the_server_closed_meanwhile_is_replaced_unnoticed(serve):
    server, connections = serve([PLAIN, None], PLAIN)
    assert get(connections) == HELLO
    assert server.has_hung_up.wait(5)
    assert get(connections) == HELLO
    assert server.connections == 2


def test_after_closing_no_connection_is_kept(serve):
    server, connections = serve(PLAIN, PLAIN)
    get(connections)
    connections.close()
    assert get(connections) == HELLO
    assert server.connections == 2


def test_a_forked_process_opens_its_own(serve):
    _, connections = serve(PLAIN, PLAIN, PLAIN)
    get(connections)
    child = os.fork()
    if child == 0:  # the server talks to one connection at a time, which is the parent's
        try:
            get(connections, 0.2)
        except TimeoutError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert get(connections) == HELLO


def times_out(connections):
    with pytest.raises(TimeoutError):
        get(connections, 0.3)


def test_silence_is_a_timeout(serve):
    _, connections = serve(*[b""] * TRIES)
    assert takes_less_than(0.5, lambda: times_out(connections)) > 0.25  # one timeout, not two


def test_nobody_there_is_an_error_of_the_connection():
    with pytest.raises(ConnectionRefusedError):
        get(HttpConnections("127.0.0.1", 9))


def test_over_tls_a_connection_serves_whom_the_trust_covers(serve, certificate):
    path, server_tls = certificate
    server, connections = serve(PLAIN, PLAIN, server_tls=server_tls, trust=ssl.create_default_context(cafile=path))
    assert [get(connections) for _ in range(2)] == [HELLO] * 2
    assert server.connections == 1


def test_over_tls_nobody_else_is_trusted(serve, certificate):
    _, connections = serve(PLAIN, server_tls=certificate[1], trust=ssl.create_default_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        get(connections)


def test_the_timeout_is_for_a_response_as_a_whole_however_it_trickles_in(serve, certificate):
    path, server_tls = certificate
    trickle = [PLAIN[n : n + 1] for n in range(len(PLAIN))]  # most of a second
    for tls, trust in ((None, None), (server_tls, ssl.create_default_context(cafile=path))):
        _, connections = serve(*[trickle] * TRIES, server_tls=tls, trust=trust)
        takes_less_than(0.5, lambda connections=connections: times_out(connections))
