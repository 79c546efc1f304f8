"""The metrics of one worker over HTTP, where ``COUPON_WORKER_METRICS`` says.

Several workers of a machine share a range of ports, of which each takes the first that is free. One without a port goes
on without, and tries again: to apply commands matters more.
"""

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from typing import NamedTuple

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector

from coupon.domain.errors import ConfigurationError
from coupon.runtime import metrics_text
from coupon.runtime.instruments import numbers

PORT_MAX = 65_535
PATIENCE_S = 5
"""A client that sends nothing for so long is disconnected; and so long it is until a worker looks for a port again."""
_ADDRESS = re.compile(r"(?:\[(?P<v6>[^]]+)\]|(?P<host>[^:]+)):(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?")
log = structlog.get_logger("coupon.worker")


class Address(NamedTuple):
    """A host, and the ports of which one is taken."""

    host: str
    ports: range

    @classmethod
    def parse(cls, text: str) -> "Address":
        """``127.0.0.1:9101`` or ``127.0.0.1:9101-9116``; raises ConfigurationError."""
        found = _ADDRESS.fullmatch(text)
        first = int(found["first"]) if found else 0
        last = int(found["last"] or first) if found else 0
        if found is None or not 1 <= first <= last <= PORT_MAX:
            raise ConfigurationError(
                f"COUPON_WORKER_METRICS={text!r} is no address with a port or a range of ports,"
                " such as 127.0.0.1:9101-9116"
            )
        return cls(found["v6"] or found["host"], range(first, last + 1))


def serve(address: Address) -> None:
    """Serve the metrics of this process from now on, in a thread."""
    threading.Thread(target=_serve, args=(address,), name="metrics", daemon=True).start()


def _serve(address: Address) -> None:
    if (server := _bound(address)) is None:
        log.warning("metrics not served", host=address.host, ports=f"{address.ports[0]}-{address.ports[-1]}")
    while server is None:
        time.sleep(PATIENCE_S)
        server = _bound(address)
    log.info("metrics served", host=address.host, port=server.server_port)
    server.serve_forever()


def _bound(address: Address) -> ThreadingHTTPServer | None:
    """A server at the first port that is free."""
    for port in address.ports:
        try:
            return (_ServerV6 if ":" in address.host else _Server)((address.host, port), _Handler)
        except OSError:
            continue
    return None


class _Server(ThreadingHTTPServer):
    address_family = AF_INET
    allow_reuse_port = False  # two workers would share a port, and a scrape would see either of them


class _ServerV6(_Server):
    address_family = AF_INET6


class _Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404)
            return
        process = CollectorRegistry()
        ProcessCollector(registry=process)
        body = metrics_text.text(numbers(), more=process)
        self.send_response(200)
        self.send_header("Content-Type", metrics_text.CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: a scrape is no event."""
