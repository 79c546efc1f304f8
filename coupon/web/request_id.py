"""``X-Request-Id``: a request's id is in every line that is logged for the request, and in the response."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from coupon.runtime import logs

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HEADER = "X-Request-Id"
_VALID = re.compile(r"[!-~]{1,128}")


class RequestId:
    """WSGI middleware. A request without the header costs one look-up."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        request_id = environ.get("HTTP_X_REQUEST_ID")
        if request_id is None or not _VALID.fullmatch(request_id):
            return self._app(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, [*headers, (HEADER, request_id)], *error)

        token = logs.request_id.set(request_id)
        try:
            return self._app(environ, start)
        finally:
            logs.request_id.reset(token)
