"""Headers of every response that keep browsers and proxies from doing more with it than they shall.

Coupons are money: no cache keeps what ``/v1`` answers, no page shows it in a frame, and no other site learns an
address of it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HEADERS = "coupon.headers"
"""Where the WSGI environment has more headers for the response."""
POLICY = "Content-Security-Policy"
ALWAYS = [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer")]
NO_PAGE = (POLICY, "default-src 'none'; frame-ancestors 'none'")
"""For a response that is no page: pages have a policy of their own."""
NO_STORE = ("Cache-Control", "no-store")


class SafeHeaders:
    """WSGI middleware."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        is_private = environ["PATH_INFO"].startswith("/v1/")

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            headers = [*headers, *ALWAYS]
            if not any(name == POLICY for name, _ in headers):
                headers.append(NO_PAGE)
            if is_private:
                headers.append(NO_STORE)
            headers += environ.get(HEADERS, ())
            return start_response(status, headers, *error)

        return self._app(environ, start)
