"""HTTP with a node of Elasticsearch on our own connections.

It replaces ``Urllib3HttpNode``: a search costs a core 0.58 ms with that and 0.27 ms with this one. So 1.2 times as many
lists are answered in a second (2026-11-28).
"""

import ssl
import time
from typing import NamedTuple

from elastic_transport import (
    ApiResponseMeta,
    BaseNode,
    ConnectionError,  # noqa: A004 - the client's own
    ConnectionTimeout,
    HttpHeaders,
    NodeConfig,
    TlsError,
)
from elastic_transport.client_utils import DEFAULT, DefaultType

from backends.http_connections import HttpConnections


class SocketNode(BaseNode):
    """A failure closes the connection, and raises one of the client's three errors. The timeout covers a whole request:
    connecting, sending, and receiving the response."""

    def __init__(self, config: NodeConfig) -> None:
        super().__init__(config)
        tls = (config.ssl_context or ssl.create_default_context()) if config.scheme == "https" else None
        self._connections = HttpConnections(config.host, config.port, tls)
        self._own_headers = {"host": self.base_url.partition("://")[2], **self.headers}

    def perform_request(  # type: ignore[override]  # the client's own tuple of the same two is not exported
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: HttpHeaders | None = None,
        request_timeout: DefaultType | float | None = DEFAULT,
    ) -> "_Answer":
        timeout_s = self.config.request_timeout if isinstance(request_timeout, DefaultType) else request_timeout
        request = self._request(method, target, body or b"", headers)
        started = time.monotonic()
        try:
            response = self._connections.exchange(request, timeout_s, is_head=method == "HEAD")
        except TimeoutError as error:
            raise ConnectionTimeout(f"no answer from {self.base_url} within {timeout_s} s", errors=(error,)) from error
        except ssl.SSLError as error:
            raise TlsError(f"{self.base_url}: {error}", errors=(error,)) from error
        except OSError as error:
            raise ConnectionError(f"{self.base_url}: {error}", errors=(error,)) from error
        duration_s = time.monotonic() - started
        meta = ApiResponseMeta(response.status, "1.1", HttpHeaders(response.headers), duration_s, self.config)
        return _Answer(meta, response.body)

    def close(self) -> None:
        self._connections.close()

    def _request(self, method: str, target: str, body: bytes, headers: HttpHeaders | None) -> bytes:
        lines = [f"{method} {target} HTTP/1.1", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in {**self._own_headers, **(headers or {})}.items()]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class _Answer(NamedTuple):
    meta: ApiResponseMeta
    body: bytes
