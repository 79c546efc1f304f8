"""``traceparent`` (W3C Trace Context): the id of a request's trace is in its lines, and in those of the worker.

A request without the header gets none made here: the ``operation`` follows a command through all lines anyway.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from coupon.runtime import logs

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
        given = environ.get("HTTP_TRACEPARENT")
        if given is None or not _VALID.fullmatch(given):
            return self._app(environ, start_response)
        token = logs.traceparent.set(f"00{given[2:LENGTH]}")
        try:
            return self._app(environ, start_response)
        finally:
            logs.traceparent.reset(token)
