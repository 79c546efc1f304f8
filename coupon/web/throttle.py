"""How many requests a caller may make: a rate for each API key and for each address, and the guard against guesses.

Each process counts rates by itself: a caller whose connections go to several processes has as many times the rate.
"""

from typing import TYPE_CHECKING

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from coupon.acceptance.guesses import Guesses
from coupon.domain.api_keys import Identity
from coupon.runtime.settings import Settings
from coupon.web.problems import Problem
from coupon.web.request_io import ANONYMOUS, IDENTITY
from coupon.web.safe_headers import HEADERS

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class Rates:
    """Requests a second, by their kind. Thread-safe. Without any it makes no thread."""

    def __init__(self, per_s: dict[str, int]) -> None:
        self._limits = {kind: RateLimitItemPerSecond(number) for kind, number in per_s.items() if number}
        self._limiter = FixedWindowRateLimiter(MemoryStorage()) if self._limits else None

    def count(self, kind: str, names: list[str]) -> list[tuple[str, str]]:
        """Count a request for each of the names; returns headers for the response. Raises Problem beyond the rate."""
        limit = self._limits.get(kind)
        if limit is None or self._limiter is None:
            return []
        hits = [self._limiter.hit(limit, kind, name) for name in names]
        left = min(self._limiter.get_window_stats(limit, kind, name).remaining for name in names)
        headers = [("RateLimit-Policy", f'"{kind}";q={limit.amount};w=1'), ("RateLimit", f'"{kind}";r={left};t=1')]
        if not all(hits):
            more = dict(headers) | {"Retry-After": "1"}
            raise Problem("TOO_MANY_REQUESTS", f"At most {limit.amount} {kind} a second.", more)
        return headers


class Throttle:
    """Thread-safe."""

    def __init__(self, settings: Settings, guesses: Guesses) -> None:
        self._rates = Rates({"commands": settings.commands_per_s, "reads": settings.reads_per_s})
        self._guesses, self._proxies = guesses, settings.proxies

    def check(self, environ: "WSGIEnvironment") -> None:
        """Raises Problem for a caller beyond its rate, and TooManyGuesses."""
        names = self._names(environ)
        self._guesses.check(names[0])
        kind = "reads" if environ["REQUEST_METHOD"] == "GET" else "commands"
        if headers := self._rates.count(kind, names):
            environ[HEADERS] = headers

    def guessed(self, environ: "WSGIEnvironment") -> None:
        """The request named a code that is unknown."""
        self._guesses.add(self._names(environ)[0])

    def _names(self, environ: "WSGIEnvironment") -> list[str]:
        """The caller's name, and its address. Callers without a name are told apart by their addresses."""
        identity: Identity = environ[IDENTITY]
        address = f"{ANONYMOUS}@{client_address(environ, self._proxies)}"
        return [address] if identity.name == ANONYMOUS else [identity.name, address]


def client_address(environ: "WSGIEnvironment", proxies: int) -> str:
    """The client's address, as the outermost of so many proxies of ours has seen it. ``X-Forwarded-For`` has an address
    of each of them at its end; what comes before, the client may have made up."""
    forwarded: str | None = environ.get("HTTP_X_FORWARDED_FOR") if proxies else None
    if forwarded is None:
        return str(environ.get("REMOTE_ADDR", ""))
    addresses = [part.strip() for part in forwarded.split(",")]
    return addresses[max(len(addresses) - proxies, 0)][:64]
