"""The client's HTTP, against servers that speak it in every way that they may, and worse."""

import socket
import ssl
import subprocess
import threading
import time

import pytest
from elastic_transport import ConnectionError, ConnectionTimeout, HttpHeaders, NodeConfig, TlsError  # noqa: A004

from backends.search.elasticsearch_node import SocketNode
from backends.testing.timing import TRIES, takes_less_than

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"

FIN_ACKNOWLEDGED = 5
"""TCP_FIN_WAIT2 of Linux."""


class Server:
    """Says one prepared answer a request, and remembers the requests. None: it hangs up instead.

    An answer may be a list of parts; with None at its end the server hangs up after it.
    """

    def __init__(self, answers, tls=None):
        self.answers, self.requests, self.connections = list(answers), [], 0
        self.has_hung_up = threading.Event()
        """The client's side knows, too, that the server hung up after an answer."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._tls = tls
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while self.answers:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            try:
                if self._tls:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                self._talk(connection)
            except OSError:
                pass
            finally:
                connection.close()

    def _talk(self, connection):
        while self.answers:
            request = b""
            while b"\r\n\r\n" not in request or len(request.partition(b"\r\n\r\n")[2]) < self._length(request):
                data = connection.recv(65_536)
                if not data:
                    return
                request += data
            self.requests.append(request)
            answer = self.answers.pop(0)
            if answer is None:
                return
            for part in answer if isinstance(answer, list) else [answer]:
                if part is None:
                    self._hang_up(connection)
                    return
                connection.sendall(part)
                time.sleep(0.01)

    def _hang_up(self, connection):
        connection.shutdown(socket.SHUT_WR)
        while connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != FIN_ACKNOWLEDGED:
            time.sleep(0.001)
        self.has_hung_up.set()

    @staticmethod
    def _length(request):
        headers = request.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
        return next((int(line.split(b":")[1]) for line in headers if line.startswith(b"content-length")), 0)

    def close(self):
        self.answers.clear()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def serve():
    opened = []

    def start(*answers, scheme="http", timeout=5.0, tls=None):
        server = Server(answers, tls)
        node = SocketNode(NodeConfig(scheme, "127.0.0.1", server.port, request_timeout=timeout))
        opened.extend([node, server])
        return server, node

    yield start
    for each in opened:
        each.close()


def test_a_request_carries_its_method_target_headers_and_body(serve):
    server, node = serve(PLAIN, PLAIN)
    node.perform_request("POST", "/a?b=c", body=b"{}", headers=HttpHeaders({"Accept": "application/json"}))
    node.perform_request("GET", "/")
    first, second = server.requests
    assert first.startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert first.endswith(b"\r\n\r\n{}")
    for header in (b"content-length: 2", b"accept: application/json", b"host: 127.0.0.1:%d" % server.port):
        assert header in first.lower()
    assert second.endswith(b"\r\n\r\n")
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        PLAIN,
        [PLAIN[:20], PLAIN[20:60], PLAIN[60:]],
        b"HTTP/1.1 200 OK\r\na:b\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
        [b"HTTP/1.1 200\r\ntransfer-encoding: chunked\r\n", b"\r\n5\r", b"\nhel", b"lo\r\n0\r\nTrailer: 1\r\n\r\n"],
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
def test_an_answer_is_read_however_it_is_framed(serve, answer):
    server, node = serve(answer, PLAIN)
    assert node.perform_request("GET", "/").body == b"hello"
    assert node.perform_request("GET", "/").body == b"hello"
    assert len(server.requests) == 2


def test_status_and_headers_are_told(serve):
    _, node = serve(b"HTTP/1.1 404 Not Found\r\nX-Elastic-Product: Elasticsearch\r\nContent-Length: 0\r\n\r\n")
    meta, body = node.perform_request("GET", "/")
    assert (meta.status, meta.headers["x-elastic-product"], body) == (404, "Elasticsearch", b"")


def test_some_answers_have_no_body_whatever_their_headers_say(serve):
    head = b"HTTP/1.1 404 Not Found\r\nContent-Length: 500\r\n\r\n"
    server, node = serve(head, b"HTTP/1.1 204 No Content\r\n\r\n", PLAIN)
    assert node.perform_request("HEAD", "/").body == b""
    assert node.perform_request("DELETE", "/").body == b""
    assert node.perform_request("GET", "/").body == b"hello"
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"SSH-2.0-OpenSSH\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        [b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", b""],
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n",
    ],
)
def test_what_is_no_answer_is_an_error_of_the_connection_and_costs_it(serve, answer):
    server, node = serve(answer, None, PLAIN, timeout=0.5)
    for _ in range(2):
        with pytest.raises((ConnectionError, ConnectionTimeout)):
            node.perform_request("GET", "/")
    assert node.perform_request("GET", "/").body == b"hello"
    assert server.connections == 3


def test_a_connection_that_the_server_closed_meanwhile_is_replaced_unnoticed(serve):
    server, node = serve([PLAIN, None], PLAIN)
    assert node.perform_request("GET", "/").body == b"hello"
    assert server.has_hung_up.wait(5)
    assert node.perform_request("GET", "/").body == b"hello"
    assert server.connections == 2


def times_out(node):
    with pytest.raises(ConnectionTimeout):
        node.perform_request("GET", "/")


def test_silence_is_a_timeout(serve):
    _, node = serve(*[b""] * TRIES, PLAIN, timeout=0.2)
    assert takes_less_than(0.4, lambda: times_out(node)) > 0.15  # one timeout, not two


def test_the_timeout_of_a_request_goes_before_that_of_the_node(serve):
    _, node = serve(b"", PLAIN, timeout=30.0)
    with pytest.raises(ConnectionTimeout):
        node.perform_request("GET", "/", request_timeout=0.1)


def test_nobody_there_is_an_error_of_the_connection():
    node = SocketNode(NodeConfig("http", "127.0.0.1", 9))
    with pytest.raises(ConnectionError):
        node.perform_request("GET", "/")


@pytest.fixture
def certificate(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        key,
        "-out",
        certificate,
        *subject,
    ]
    subprocess.run(command, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    return certificate, tls


def test_over_tls_it_trusts_the_authorities_that_the_operator_names(serve, certificate, monkeypatch):
    path, tls = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    server, node = serve(PLAIN, PLAIN, scheme="https", tls=tls)
    assert node.perform_request("GET", "/").body == b"hello"
    assert node.perform_request("GET", "/").body == b"hello"
    assert server.connections == 1


def test_over_tls_it_trusts_nobody_else(serve, certificate):
    _, tls = certificate
    _, node = serve(PLAIN, scheme="https", tls=tls)
    with pytest.raises(TlsError):
        node.perform_request("GET", "/")


def test_the_timeout_is_for_an_answer_as_a_whole_however_it_trickles_in(serve, certificate, monkeypatch):
    path, tls = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    trickle = [PLAIN[n : n + 1] for n in range(len(PLAIN))]  # most of a second
    for scheme, server_tls in (("http", None), ("https", tls)):
        _, node = serve(*[trickle] * TRIES, scheme=scheme, tls=server_tls, timeout=0.3)
        takes_less_than(0.5, lambda node=node: times_out(node))
