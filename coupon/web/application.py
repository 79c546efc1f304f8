"""Flask, less what no route of ours depends on."""

from typing import TYPE_CHECKING, Any

from flask import Flask
from werkzeug.routing import MapAdapter

if TYPE_CHECKING:
    from flask.wrappers import Request

NOWHERE = "/\0"
"""No route has it. Werkzeug takes ``//livez`` for ``/livez``, and a gateway that has rules for paths does not. It puts
U+FFFD in the place of bytes that are no UTF-8, and a user may be named so."""


class Application(Flask):
    """Its routes are told apart by method and path alone, so the host is not looked at. Flask does so twice, for a
    twelfth of a request."""

    def __init__(self, *arguments: Any, body_max: int = 65_536, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._body_max = body_max
        self.larger_bodies: dict[str, int] = {}
        """By address, where one takes larger bodies than the others."""

    def body_max(self, path: str) -> int:
        """So many bytes of a body the server has to take in for this address, before it asks the application."""
        return self.larger_bodies.get(path, self._body_max)

    def create_url_adapter(self, request: "Request | None") -> MapAdapter | None:
        if request is None:
            return None
        root = f"{request.root_path}/"
        path = request.path
        if request.environ["PATH_INFO"].startswith("//") or ("\ufffd" in path and not _is_text(request)):
            path = NOWHERE
        return MapAdapter(self.url_map, "", root, "", request.scheme, path, request.method)


def _is_text(request: "Request") -> bool:
    try:
        request.environ["PATH_INFO"].encode("latin-1").decode()
    except UnicodeDecodeError:
        return False
    return True
