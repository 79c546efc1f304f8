"""Requests to DynamoDB by its documented protocol: JSON over HTTP/1.1, signed with AWS's Signature Version 4.

botocore does the same for any service, and takes five times as much CPU. It walks each value by its shape, fires a
dozen events and parses headers as those of a mail. So the requests of the hot path go this way (decision 24). botocore
keeps the rest: tables, credentials, the region and the endpoint.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.LowLevelAPI.html
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hmac
import ssl
import time
from hashlib import sha256
from typing import Protocol
from urllib.parse import urlsplit

from backends.deadline_socket import SHORTEST_S
from backends.http_connections import BrokenOff, HttpConnections, Response

CONNECT_TIMEOUT_S = 1.0
ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "dynamodb"
TARGET = "DynamoDB_20120810"
CONTENT_TYPE = "application/x-amz-json-1.0"


class Credentials(Protocol):
    """botocore's, at one moment."""

    access_key: str
    secret_key: str
    token: str | None


class CredentialSource(Protocol):
    """botocore's chain: environment, files, the metadata of a container or an instance. It renews what expires."""

    def get_frozen_credentials(self) -> Credentials: ...


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
    """Sends requests to one endpoint. Of one process; thread-safe.

    ``certificates`` is the file of those to trust, for an endpoint with https: it takes a while to read.
    """

    def __init__(self, endpoint: str, region: str, credentials: CredentialSource, certificates: str) -> None:
        url = urlsplit(endpoint)
        is_tls = url.scheme == "https"
        self._path = url.path or "/"
        self._host = url.netloc.rpartition("@")[2]
        self._signer = Signer(self._host, self._path, region, credentials)
        tls = ssl.create_default_context(cafile=certificates) if is_tls else None
        self._connections = HttpConnections(url.hostname or "", url.port or (443 if is_tls else 80), tls)

    def post(self, operation: str, body: bytes, timeout_s: float) -> Response:
        """Raises BrokenOff, and OSError where there is no connection, or no response in time."""
        deadline = time.monotonic() + timeout_s
        headers = self._signer.headers(operation, body, time.time())
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"POST {self._path} HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body
        left_s = max(deadline - time.monotonic(), SHORTEST_S)
        try:
            return self._connections.exchange(request, left_s, min(left_s, CONNECT_TIMEOUT_S))
        except BrokenOff:
            raise
        except OSError as error:
            raise OSError(f"{self._host}: {error}") from error

    def close(self) -> None:
        """Close the idle connections. Those in use close at the end of their requests."""
        self._connections.close()
