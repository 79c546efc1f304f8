"""Paths that the router would confuse with other paths: each is answered with 404.

Werkzeug treats ``//livez`` as ``/livez``, while a gateway in front has rules for exact paths. It also reads bytes that
are no UTF-8 as U+FFFD, which may be a user's id.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

NOWHERE = "/\0"
"""No route has this path, so the router answers 404."""


class ExactPaths:
    """WSGI middleware that replaces such a path by ``NOWHERE``."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        if path.startswith("//") or not (path.isascii() or _is_utf8(path)):
            environ["PATH_INFO"] = NOWHERE
        return self._app(environ, start_response)


def _is_utf8(path: str) -> bool:
    """Whether the bytes of the path are UTF-8. It has a character for each byte (PEP 3333)."""
    try:
        path.encode("latin-1").decode()
    except UnicodeDecodeError:
        return False
    return True
