"""A server before one that knows neither TLS nor credentials: it ends TLS, and lets in who shows the right ones."""

import hashlib
import hmac
import http.client
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

PASSED = ("content-type", "x-elastic-product")


class Request(NamedTuple):
    """``headers`` have names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Refusal(NamedTuple):
    status: int
    body: bytes


Check = Callable[[Request], Refusal | None]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


@contextmanager
def proxy_to(upstream: str, check: Check, tls: ssl.SSLContext) -> Iterator[int]:
    """Its port on 127.0.0.1."""
    server = _Server(("127.0.0.1", 0), _handler(upstream, check))
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def signed_by(secrets: Mapping[str, tuple[str, str | None]]) -> Check:
    """Lets in who signs as AWS does, with one of the keys: the secret and the session's token of each."""

    def check(request: Request) -> Refusal | None:
        authorization = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d+/[\w-]+/dynamodb/aws4_request), ?"
            r"SignedHeaders=([\w;-]+), ?Signature=(\w+)",
            request.headers.get("authorization", ""),
        )
        key, scope, names, signature = authorization.groups() if authorization else ("", "", "", "")
        secret, token = secrets.get(key, ("", None))
        if not secret or request.headers.get("x-amz-security-token") != token:
            return _aws_refusal("UnrecognizedClientException", "The security token included in the request is invalid.")
        if not hmac.compare_digest(_signature(request, secret, scope, names), signature):
            return _aws_refusal("InvalidSignatureException", "The request signature does not match.")
        return None

    return check


def _signature(request: Request, secret: str, scope: str, names: str) -> str:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html"""
    headers = "".join(f"{name}:{request.headers[name].strip()}\n" for name in names.split(";"))
    body = hashlib.sha256(request.body).hexdigest()
    canonical = hashlib.sha256(f"{request.method}\n{request.target}\n\n{headers}\n{names}\n{body}".encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{request.headers['x-amz-date']}\n{scope}\n{canonical}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def _aws_refusal(code: str, message: str) -> Refusal:
    return Refusal(400, f'{{"__type":"com.amazon.coral.service#{code}","message":"{message}"}}'.encode())


def _handler(upstream: str, check: Check) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, self.rfile.read(int(headers.get("content-length", 0))))
            refusal = check(request)
            if refusal is not None:
                self._answer(refusal.status, {"content-type": "application/json"}, refusal.body)
                return
            kept = {name: value for name, value in headers.items() if name not in ("content-length", "connection")}
            connection = http.client.HTTPConnection(upstream, timeout=20)
            connection.request(request.method, request.target, request.body or None, kept)
            response = connection.getresponse()
            passed = {name: value for name in PASSED if (value := response.headers.get(name))}
            self._answer(response.status, passed, response.read())
            connection.close()

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self.do_POST
            raise AttributeError(name)

        def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
