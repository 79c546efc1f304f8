"""Flask, less what no route of ours depends on."""

from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.routing import MapAdapter

if TYPE_CHECKING:
    from flask.wrappers import Request


class Application(Flask):
    """Its routes are told apart by method and path alone, so the host is not looked at. Flask does so twice, for a
    twelfth of a request."""

    def create_url_adapter(self, request: "Request | None") -> MapAdapter | None:
        if request is None:
            return None
        root = f"{request.root_path}/"
        return MapAdapter(self.url_map, "", root, "", request.scheme, request.path, request.method)
