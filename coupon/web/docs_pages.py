"""Pages for people: the OpenAPI document at ``/docs``, the meaning of each problem's code at ``/docs/problems``.

Swagger UI is served from here, out of a package that bundles it. The Content-Security-Policy keeps the browser from
loading anything from elsewhere.
"""

from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from mimetypes import guess_type
from pathlib import Path
from typing import Any

from flask import Response, current_app, make_response, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound
from werkzeug.security import safe_join

from coupon.web.problems import TITLES, Problem
from coupon.web.remedies import REMEDIES
from coupon.web.request_io import JSON

ONLY_FROM_HERE = "default-src 'self'; frame-ancestors 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'"
DOCUMENT = "coupon.openapi"
"""The key of the OpenAPI document among the application's extensions."""


def redirect_to_docs() -> Any:
    return redirect(url_for("show_docs"))


def redirect_browsers_to_docs() -> Any:
    """A browser prefers HTML to JSON. A program does not, and is told that nothing is here."""
    if request.accept_mimetypes["text/html"] <= request.accept_mimetypes[JSON]:
        raise Problem("NOT_FOUND", headers={"Vary": "Accept"})
    response = redirect_to_docs()
    response.vary.add("Accept")
    return response


def show_docs() -> Response:
    return _page("docs.html")


def get_docs_script() -> Response:
    return _page("docs.js", mimetype="text/javascript")


def show_problems() -> Response:
    rows = {code: (*TITLES[code], REMEDIES[code].split("`")) for code in TITLES}
    return _page("problems.html", rows=rows)


def get_openapi() -> Response:
    return Response(current_app.extensions[DOCUMENT], mimetype=JSON)


def get_favicon() -> Response:
    return get_asset("favicon-32x32.png")


def get_asset(filename: str) -> Response:
    """A file of Swagger UI, from memory: Flask reads it in 170 pieces, and another thread may run before each."""
    content, media_type, tag = _asset(filename)
    response = Response(content, mimetype=media_type)
    response.set_etag(tag)
    response.make_conditional(request)
    return response


@lru_cache(maxsize=8)
def _asset(name: str) -> tuple[bytes, str | None, str]:
    path = safe_join(str(files("flask_swagger_ui") / "dist"), name)
    if path is None or not Path(path).is_file():
        raise NotFound
    content = Path(path).read_bytes()
    return content, guess_type(name)[0], blake2b(content, digest_size=8).hexdigest()


def _page(template: str, mimetype: str = "text/html", **names: Any) -> Response:
    response = make_response(render_template(template, **names))
    response.mimetype = mimetype
    response.headers["Content-Security-Policy"] = ONLY_FROM_HERE
    return response
