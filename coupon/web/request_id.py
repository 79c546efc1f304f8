"""``X-Request-Id``: with a request that has one, it is in every line that is logged for it, and in the answer."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from coupon.runtime import logs

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HEADER = "X-Request-Id"
_SANE = re.compile(r"[!-~]{1,128}")


class RequestId:
    """Goes around the application, and costs a request without the header nothing."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        given = environ.get("HTTP_X_REQUEST_ID")
        if given is None or not _SANE.fullmatch(given):
            return self._app(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, [*headers, (HEADER, given)], *error)

        token = logs.request_id.set(given)
        try:
            return self._app(environ, start)
        finally:
            logs.request_id.reset(token)
