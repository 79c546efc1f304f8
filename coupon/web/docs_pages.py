"""Pages for people: the OpenAPI document at ``/docs``, the meaning of each problem's code at ``/docs/problems``.

All that they need is served from here, from a package that bundles Swagger UI; the Content-Security-Policy keeps the
browser from asking anybody else.
"""

from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from mimetypes import guess_type
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, make_response, render_template, request
from werkzeug.exceptions import NotFound
from werkzeug.security import safe_join

from coupon.web.problems import TITLES

ONLY_FROM_HERE = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'"
pages = Blueprint(
    "pages",
    __name__,
    url_prefix="/docs",
    template_folder="templates",
)


@pages.get("")
def docs() -> Response:
    return _page("docs.html")


@pages.get("/assets/<path:filename>", endpoint="static")
def asset(filename: str) -> Any:
    """From memory: a file is read in 170 pieces, and for each of them another thread may be let in first."""
    content, media_type, tag = _asset(filename)
    response = Response(content, mimetype=media_type)
    response.set_etag(tag)
    return response.make_conditional(request)


@lru_cache(maxsize=8)
def _asset(name: str) -> tuple[bytes, str | None, str]:
    path = safe_join(str(files("flask_swagger_ui") / "dist"), name)
    if path is None or not Path(path).is_file():
        raise NotFound
    content = Path(path).read_bytes()
    return content, guess_type(name)[0], blake2b(content, digest_size=8).hexdigest()


@pages.get("/docs.js")
def script() -> Response:
    return _page("docs.js", mimetype="text/javascript")


@pages.get("/problems")
def meanings() -> Response:
    return _page("problems.html", titles=TITLES)


def _page(template: str, mimetype: str = "text/html", **names: Any) -> Response:
    response = make_response(render_template(template, **names))
    response.mimetype = mimetype
    response.headers["Content-Security-Policy"] = ONLY_FROM_HERE
    return response
