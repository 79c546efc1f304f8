"""Requests to DynamoDB by its documented protocol: JSON over HTTP/1.1, signed with AWS's Signature Version 4.

botocore does the same for any service, and takes five times as much CPU. It walks each value by its shape, fires a
dozen events and parses headers as those of a mail. So the requests of the hot path go this way (decision 24). botocore
keeps the rest: tables, credentials, the region and the endpoint. A socket's timeout is for a whole answer here.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.LowLevelAPI.html
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hmac
import re
import select
import socket
import ssl
import time
import weakref
from hashlib import sha256
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from backends.deadline_socket import DeadlineSocket, PromptTlsSocket, prompt

CONNECT_TIMEOUT_S = 1.0
IDLE_MAX = 64
"""Idle connections that are kept: more threads than that open one for each request."""
HEAD_MAX = 65_536
RECEIVED_MAX = 262_144
ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "dynamodb"
TARGET = "DynamoDB_20120810"
CONTENT_TYPE = "application/x-amz-json-1.0"
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,12}) *\r\n", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close *\r\n", re.IGNORECASE)


class Credentials(Protocol):
    """botocore's, at one moment."""

    access_key: str
    secret_key: str
    token: str | None


class CredentialSource(Protocol):
    """botocore's chain: environment, files, the metadata of a container or an instance. It renews what expires."""

    def get_frozen_credentials(self) -> Credentials: ...


class Answer(NamedTuple):
    status: int
    body: bytes


class BrokenOff(Exception):
    """A connection ended before the answer did: DynamoDB may have done the operation."""


class Signer:
    """Signs requests to one host and path. Thread-safe."""

    def __init__(self, host: str, path: str, region: str, credentials: CredentialSource) -> None:
        self._host, self._path, self._region, self._credentials = host, path, region, credentials
        self._key: tuple[tuple[str, str], bytes] = (("", ""), b"")

    def headers(self, operation: str, body: bytes, at: float) -> dict[str, str]:
        """The headers of the operation, the last one its signature. ``at`` is the time of the wall clock in seconds:
        DynamoDB refuses what is some minutes off."""
        frozen = self._credentials.get_frozen_credentials()
        instant = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
        headers = {"content-type": CONTENT_TYPE, "host": self._host, "x-amz-date": instant}
        if frozen.token:
            headers["x-amz-security-token"] = frozen.token
        headers["x-amz-target"] = f"{TARGET}.{operation}"
        names = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        request = f"POST\n{self._path}\n\n{lines}\n{names}\n{sha256(body).hexdigest()}"
        scope = f"{instant[:8]}/{self._region}/{SERVICE}/aws4_request"
        text = f"{ALGORITHM}\n{instant}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self._key_of(frozen.secret_key, instant[:8]), text.encode(), "sha256").hex()
        credential = f"{frozen.access_key}/{scope}"
        headers["authorization"] = f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
        return headers

    def _key_of(self, secret: str, day: str) -> bytes:
        """The key of a day, remembered."""
        known, key = self._key
        if known != (secret, day):
            key = f"AWS4{secret}".encode()
            for text in (day, self._region, SERVICE, "aws4_request"):
                key = hmac.digest(key, text.encode(), "sha256")
            self._key = (secret, day), key
        return key


class DynamoTransport:
    """Sends requests to one endpoint, on connections that are kept. Of one process; thread-safe.

    ``certificates`` is the file of those to trust, for an endpoint with https: it takes a while to read.
    """

    def __init__(self, endpoint: str, region: str, credentials: CredentialSource, certificates: str) -> None:
        url = urlsplit(endpoint)
        is_tls = url.scheme == "https"
        self._path, self._name = url.path or "/", url.hostname or ""
        self._port = url.port or (443 if is_tls else 80)
        self._tls = ssl.create_default_context(cafile=certificates) if is_tls else None
        if self._tls is not None:
            self._tls.sslsocket_class = PromptTlsSocket
        host = url.netloc.rpartition("@")[2]
        self._signer = Signer(host, self._path, region, credentials)
        self._idle: list[DeadlineSocket] = []
        """A stack. ``pop`` and ``append`` are atomic."""
        self._finalizer = weakref.finalize(self, _close_all, self._idle)

    def post(self, operation: str, body: bytes, timeout_s: float) -> Answer:
        """Raises BrokenOff, and OSError where there is no connection, or no answer in time."""
        deadline = time.monotonic() + timeout_s
        headers = self._signer.headers(operation, body, time.time())
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"POST {self._path} HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body
        connection = self._connection(timeout_s)
        try:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            connection.sendall(request)
            answer, is_open = _received(connection)
        except ConnectionError as error:
            connection.close()
            raise BrokenOff(str(error)) from error
        except BaseException:
            connection.close()
            raise
        if is_open and self._finalizer.alive and len(self._idle) < IDLE_MAX:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        """Close the idle connections. Those in use close at the end of their requests."""
        self._finalizer()

    def _connection(self, timeout_s: float) -> DeadlineSocket:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread took the last one
                break
            if not _is_readable(connection):
                return connection
            connection.close()  # the server has closed it, or has sent what nobody asked for
        return self._connect(min(timeout_s, CONNECT_TIMEOUT_S))

    def _connect(self, timeout_s: float) -> DeadlineSocket:
        try:
            connection = prompt(socket.create_connection((self._name, self._port), timeout_s))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection if self._tls is None else _secured(self._tls, connection, self._name)
        except OSError as error:
            raise OSError(f"could not connect to {self._name}:{self._port}: {error}") from error


def _close_all(connections: list[DeadlineSocket]) -> None:
    while connections:
        connections.pop().close()


def _secured(tls: ssl.SSLContext, connection: DeadlineSocket, name: str) -> DeadlineSocket:
    try:
        secured: Any = tls.wrap_socket(connection, server_hostname=name)
    except BaseException:
        connection.close()
        raise
    return secured  # type: ignore[no-any-return]


def _is_readable(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _received(connection: DeadlineSocket) -> tuple[Answer, bool]:
    """The answer, and whether the connection may be used again. DynamoDB always gives the length of a body."""
    received = connection.recv(RECEIVED_MAX)
    while (end := received.find(b"\r\n\r\n")) < 0:
        more = connection.recv(RECEIVED_MAX) if len(received) <= HEAD_MAX else b""
        if not more:
            raise ConnectionError(f"broke off in the head of an answer: {received[:100]!r}")
        received += more
    head, body = received[: end + 2], bytearray(received[end + 4 :])
    status, length = _STATUS.match(head), _LENGTH.search(head)
    if status is None or length is None:
        raise ConnectionError(f"no answer of DynamoDB's: {head[:100]!r}")
    size = int(length[1])
    while len(body) < size:
        more = connection.recv(min(size - len(body), RECEIVED_MAX))
        if not more:
            raise ConnectionError(f"broke off after {len(body)} of {size} bytes")
        body += more
    if len(body) > size:
        raise ConnectionError("more than one answer to a request")
    return Answer(int(status[1]), bytes(body)), _CLOSES.search(head) is None
