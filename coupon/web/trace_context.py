"""``traceparent`` (W3C Trace Context): the id of a request's trace is in its lines, and in those of the worker.

A request without the header gets none made here: the ``operation`` follows a command through all lines anyway.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from coupon.runtime import logs
from coupon.runtime.tracing import Tracer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_IDS = "-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_VALID = re.compile(f"00{_IDS}|(?!00|ff)[0-9a-f]{{2}}{_IDS}(?:-.*)?")
"""A later version may have more at its end, which is left out."""
LENGTH = 55


class TraceContext:
    """WSGI middleware. A request without the header costs one look-up."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        given = _given(environ)
        return _answered(self._app, given, environ, start_response) if given else self._app(environ, start_response)


class Spans:
    """In its place where OpenTelemetry is on: each request is a span, and the command it leads to belongs to it."""

    def __init__(self, app: "WSGIApplication", tracer: Tracer) -> None:
        self._app, self._tracer = app, tracer

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        span = self._tracer.begin(environ["REQUEST_METHOD"], _given(environ))

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            self._tracer.end(span, int(status[:3]))
            return start_response(status, headers, *error)

        return _answered(self._app, self._tracer.traceparent(span), environ, start)


def _given(environ: "WSGIEnvironment") -> str:
    """The ``traceparent`` of the request; empty without a valid one."""
    given: str | None = environ.get("HTTP_TRACEPARENT")
    return f"00{given[2:LENGTH]}" if given is not None and _VALID.fullmatch(given) else ""


def _answered(
    app: "WSGIApplication", traceparent: str, environ: "WSGIEnvironment", start_response: "StartResponse"
) -> Iterable[bytes]:
    token = logs.traceparent.set(traceparent)
    try:
        return app(environ, start_response)
    finally:
        logs.traceparent.reset(token)
