"""``Host``: a request that names another host than ours is refused.

A web page can make a browser call a service of its own machine under a name that its owner chose (DNS rebinding). So a
service on loopback answers to names of loopback only, and ``COUPON_HOSTS`` names the hosts of any other service.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from coupon.web.access import UNKNOWN_HOST, is_loopback
from coupon.web.problems import Problem, response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PROBES = {"/livez", "/readyz"}
"""Probes call an address, whatever the service is called."""


class KnownHosts:
    """WSGI middleware. ``hosts`` are the names of ``COUPON_HOSTS``, without ports."""

    def __init__(self, app: "WSGIApplication", hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if not self._is_known(environ):
            if environ["PATH_INFO"] in PROBES:
                environ[UNKNOWN_HOST] = True
                return self._app(environ, start_response)
            detail = "Set COUPON_HOSTS to the names under which the service is called."
            return response(Problem("UNKNOWN_HOST", detail))(environ, start_response)
        return self._app(environ, start_response)

    def _is_known(self, environ: "WSGIEnvironment") -> bool:
        name = _name(environ.get("HTTP_HOST", ""))
        if self._hosts:
            return name in self._hosts
        return is_loopback(name) or not is_loopback(environ["SERVER_NAME"])


@lru_cache
def _name(host: str) -> str:
    """The host's name without its port, in lower case; an IPv6 address without its brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
