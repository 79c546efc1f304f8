"""Pages for people: the OpenAPI document at ``/docs``, the meaning of each problem's code at ``/docs/problems``.

All that they need is served from here, from a package that bundles Swagger UI; the Content-Security-Policy keeps the
browser from asking anybody else.
"""

from importlib.resources import files
from typing import Any

from flask import Blueprint, Response, make_response, render_template

from coupon.web.problems import TITLES

ONLY_FROM_HERE = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'"
pages = Blueprint(
    "pages",
    __name__,
    url_prefix="/docs",
    template_folder="templates",
    static_folder=str(files("flask_swagger_ui") / "dist"),
    static_url_path="/assets",
)


@pages.get("")
def docs() -> Response:
    return _page("docs.html")


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
