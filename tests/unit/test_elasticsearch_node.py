"""A node of Elasticsearch: what its client hands over and is told."""

import pytest
from elastic_transport import ConnectionError, ConnectionTimeout, HttpHeaders, NodeConfig, TlsError  # noqa: A004

from backends.search.elasticsearch_node import SocketNode
from tests.unit.scripted_server import PLAIN, Server


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


def test_status_and_headers_are_told(serve):
    _, node = serve(b"HTTP/1.1 404 Not Found\r\nX-Elastic-Product: Elasticsearch\r\nContent-Length: 0\r\n\r\n")
    meta, body = node.perform_request("GET", "/")
    assert (meta.status, meta.headers["x-elastic-product"], body) == (404, "Elasticsearch", b"")


def test_a_head_request_has_no_body(serve):
    server, node = serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: 500\r\n\r\n", PLAIN)
    assert node.perform_request("HEAD", "/").body == b""
    assert node.perform_request("GET", "/").body == b"hello"
    assert server.connections == 1


def test_what_is_no_response_is_an_error_of_the_connection(serve):
    _, node = serve(b"SSH-2.0-OpenSSH\r\n\r\n")
    with pytest.raises(ConnectionError, match="SSH"):
        node.perform_request("GET", "/")


def test_silence_is_a_timeout(serve):
    _, node = serve(b"", PLAIN, timeout=0.2)
    with pytest.raises(ConnectionTimeout):
        node.perform_request("GET", "/")


def test_the_timeout_of_a_request_goes_before_that_of_the_node(serve):
    _, node = serve(b"", PLAIN, timeout=30.0)
    with pytest.raises(ConnectionTimeout):
        node.perform_request("GET", "/", request_timeout=0.1)


def test_nobody_there_is_an_error_of_the_connection():
    node = SocketNode(NodeConfig("http", "127.0.0.1", 9))
    with pytest.raises(ConnectionError):
        node.perform_request("GET", "/")


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
