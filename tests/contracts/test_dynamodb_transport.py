"""What goes to DynamoDB and comes from it, byte by byte: the signature, the connections, answers that are none."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from types import SimpleNamespace

import certifi
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from backends.store.dynamodb_transport import HEAD_MAX, Answer, BrokenOff, DynamoTransport, Signer

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
BODY = b'{"RequestItems":{}}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: 2\r\n\r\n{}"
HANG_UP = b""


@pytest.mark.parametrize("token", [None, "a session's"])
@pytest.mark.parametrize("host", ["dynamodb.eu-west-1.amazonaws.com", "127.0.0.1:8000"])
def test_the_signature_is_botocores(monkeypatch: pytest.MonkeyPatch, host: str, token: str | None) -> None:
    credentials = Credentials("AKID", "secret", token)
    signer = Signer(host, "/", "eu-west-1", credentials)
    for day in (NOON, NOON.replace(day=29)):
        headers = signer.headers("BatchGetItem", BODY, day.timestamp())
        unsigned = {
            name: value for name, value in headers.items() if name not in ("authorization", "host", "x-amz-date")
        }
        request = AWSRequest("POST", f"https://{host}/", dict(unsigned), BODY)
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda day=day: day)
        SigV4Auth(credentials, "dynamodb", "eu-west-1").add_auth(request)
        assert headers["x-amz-date"] == request.headers["X-Amz-Date"]
        assert headers["authorization"] == request.headers["Authorization"]


def test_credentials_that_were_renewed_are_used() -> None:
    frozen = [SimpleNamespace(access_key=name, secret_key=name, token=None) for name in ("old", "new", "new")]
    signer = Signer("host", "/", "eu-west-1", SimpleNamespace(get_frozen_credentials=lambda: frozen.pop(0)))
    old, new, again = (signer.headers("Scan", BODY, 0)["authorization"] for _ in range(3))
    assert "Credential=old/" in old
    assert "Credential=new/" in new
    assert old.partition("Signature=")[2] != new.partition("Signature=")[2]
    assert again == new


class Script:
    """``answers`` to requests, in turn. ``connections`` counts those that came, ``sent`` are the requests."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.connections = 0
        self.sent: list[bytes] = []


@contextmanager
def scripted(*answers: bytes) -> Iterator[tuple[DynamoTransport, Script]]:
    """A transport to a server that answers by the script, and closes a connection at HANG_UP."""
    script = Script(*answers)

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                script.connections += 1
                with connection:
                    answer(connection)

    def answer(connection: socket.socket) -> None:
        while script.answers:
            request = connection.recv(65_536)
            if not request:
                return
            script.sent.append(request)
            reply = script.answers.pop(0)
            if reply == HANG_UP:
                return
            connection.sendall(reply)
            if reply != ANSWER:
                return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        endpoint = f"http://127.0.0.1:{listening.getsockname()[1]}"
        transport = DynamoTransport(endpoint, "local", Credentials("a", "b"), certifi.where())
        try:
            yield transport, script
        finally:
            transport.close()
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def post(transport: DynamoTransport) -> Answer:
    return transport.post("BatchGetItem", BODY, 5)


def test_a_request_is_what_the_protocol_says_and_a_connection_serves_many() -> None:
    with scripted(ANSWER, ANSWER, ANSWER) as (transport, script):
        assert [post(transport) for _ in range(3)] == [Answer(200, b"{}")] * 3
        assert script.connections == 1
    head, _, body = script.sent[0].partition(b"\r\n\r\n")
    assert body == BODY
    assert head.startswith(b"POST / HTTP/1.1\r\ncontent-type: application/x-amz-json-1.0\r\nhost: 127.0.0.1:")
    assert b"\r\nx-amz-target: DynamoDB_20120810.BatchGetItem\r\n" in head
    assert head.endswith(b"\r\ncontent-length: 19")


@pytest.mark.parametrize(
    "last",
    [
        ANSWER.replace(b"Content-Type", b"Connection: close\r\nContent-Type"),
        ANSWER.replace(b"OK", b"anything"),
    ],
    ids=["told to close", "closed while idle"],
)
def test_a_connection_that_the_server_closes_is_replaced(last: bytes) -> None:
    with scripted(last, ANSWER) as (transport, script):
        assert post(transport).body == b"{}"
        assert post(transport).body == b"{}"
        assert script.connections == 2


def test_after_closing_no_connection_is_kept() -> None:
    with scripted(ANSWER, ANSWER) as (transport, script):
        post(transport)
        transport.close()
        assert post(transport).body == b"{}"
        transport.close()
        assert script.connections == 2


def test_an_error_comes_with_its_body() -> None:
    with scripted(b'HTTP/1.1 400 Bad Request\r\ncontent-length: 13\r\n\r\n{"__type":""}') as (transport, _):
        assert post(transport) == Answer(400, b'{"__type":""}')


@pytest.mark.parametrize(
    "answer",
    [
        HANG_UP,
        ANSWER[:20],
        ANSWER[:-1],
        ANSWER + b"x",
        ANSWER.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked"),
        ANSWER.replace(b"Content-Length: 2", b"Content-Length: -2"),
        ANSWER.replace(b"Content-Length: 2", b"Content-Length: " + b"9" * 30),
        b"HTTP/2 200\r\ncontent-length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * HEAD_MAX,
    ],
)
def test_what_is_no_answer_breaks_the_connection_off(answer: bytes) -> None:
    with scripted(answer, ANSWER) as (transport, script):
        with pytest.raises(BrokenOff):
            post(transport)
        assert post(transport).body == b"{}"
        assert script.connections == 2


def test_who_does_not_listen_is_named() -> None:
    transport = DynamoTransport("http://127.0.0.1:9", "local", Credentials("a", "b"), certifi.where())
    with pytest.raises(OSError, match=r"could not connect to 127\.0\.0\.1:9: .*refused"):
        post(transport)
