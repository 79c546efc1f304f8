"""``X-Request-Id``: with a request that has one, it is in every line that is logged for it, and in the answer."""

import re

import structlog
from flask import Flask, Response, after_this_request, request

HEADER = "X-Request-Id"
_SANE = re.compile(r"[!-~]{1,128}")


def follow(app: Flask) -> None:
    """Do so for all requests of the application."""

    @app.before_request
    def bind() -> None:
        given = request.environ.get("HTTP_X_REQUEST_ID")
        if given is not None and _SANE.fullmatch(given):
            structlog.contextvars.bind_contextvars(request_id=given)
            after_this_request(release)


def release(response: Response) -> Response:
    response.headers[HEADER] = request.headers[HEADER]
    structlog.contextvars.unbind_contextvars("request_id")
    return response
