"""What goes to DynamoDB and comes from it, byte by byte: the signature and the request."""

from datetime import UTC, datetime
from types import SimpleNamespace

import certifi
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from backends.http_connections import BrokenOff, Response
from backends.store.dynamodb_transport import DynamoTransport, Signer
from tests.unit.scripted_server import Server

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
BODY = b'{"RequestItems":{}}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: 2\r\n\r\n{}"


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


@pytest.fixture
def serve():
    opened = []

    def start(*answers):
        server = Server(answers)
        transport = DynamoTransport(f"http://127.0.0.1:{server.port}", "local", Credentials("a", "b"), certifi.where())
        opened.extend([transport, server])
        return server, transport

    yield start
    for each in opened:
        each.close()


def post(transport: DynamoTransport) -> Response:
    return transport.post("BatchGetItem", BODY, 5)


def test_a_request_is_what_the_protocol_says(serve) -> None:
    server, transport = serve(ANSWER)
    assert post(transport).body == b"{}"
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert body == BODY
    assert head.startswith(b"POST / HTTP/1.1\r\ncontent-type: application/x-amz-json-1.0\r\nhost: 127.0.0.1:")
    assert b"\r\nx-amz-target: DynamoDB_20120810.BatchGetItem\r\n" in head
    assert head.endswith(b"\r\ncontent-length: 19")


def test_an_error_comes_with_its_body(serve) -> None:
    _, transport = serve(b'HTTP/1.1 400 Bad Request\r\ncontent-length: 13\r\n\r\n{"__type":""}')
    response = post(transport)
    assert (response.status, response.body) == (400, b'{"__type":""}')


def test_a_response_that_breaks_off_is_told_from_no_connection(serve) -> None:
    _, transport = serve(None)
    with pytest.raises(BrokenOff):
        post(transport)


def test_who_does_not_listen_is_named() -> None:
    transport = DynamoTransport("http://127.0.0.1:9", "local", Credentials("a", "b"), certifi.where())
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9: .*refused") as raised:
        post(transport)
    assert not isinstance(raised.value, BrokenOff)
