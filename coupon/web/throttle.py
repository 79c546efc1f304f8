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

    def count(self, kind: str, name: str) -> list[tuple[str, str]]:
        """Count a request; returns headers for the response. Raises Problem beyond the rate."""
        limit = self._limits.get(kind)
        if limit is None or self._limiter is None:
            return []
        is_within = self._limiter.hit(limit, kind, name)
        left = self._limiter.get_window_stats(limit, kind, name).remaining
        headers = [("RateLimit-Policy", f'"{kind}";q={limit.amount};w=1'), ("RateLimit", f'"{kind}";r={left};t=1')]
        if not is_within:
            more = dict(headers) | {"Retry-After": "1"}
            raise Problem("TOO_MANY_REQUESTS", f"At most {limit.amount} {kind} a second.", more)
        return headers


class Throttle:
    """Thread-safe."""

    def __init__(self, settings: Settings, guesses: Guesses) -> None:
        self._rates = Rates({"commands": settings.commands_per_s, "reads": settings.reads_per_s})
        self._guesses, self._proxies = guesses, settings.proxies

    def count_address(self, environ: "WSGIEnvironment") -> None:
        """Before anything is known of the caller. Raises Problem for an address beyond its rate."""
        self._count(environ, self._address(environ))

    def count_caller(self, environ: "WSGIEnvironment") -> None:
        """Raises Problem for a caller beyond its rate, and TooManyGuesses."""
        for name in self._guessers(environ):
            self._guesses.check(name)
        self._count(environ, environ[IDENTITY].name)

    def guessed(self, environ: "WSGIEnvironment") -> None:
        """The request named a code that is unknown."""
        for name in self._guessers(environ):
            self._guesses.add(name)

    def _count(self, environ: "WSGIEnvironment", name: str) -> None:
        kind = "reads" if environ["REQUEST_METHOD"] in ("GET", "HEAD") else "commands"
        if name != ANONYMOUS and (headers := self._rates.count(kind, name)):
            environ[HEADERS] = headers

    def _guessers(self, environ: "WSGIEnvironment") -> list[str]:
        """Who answers for a guess. Accounts of users are cheap, so their address does, too. A key is one caller,
        wherever it is used."""
        identity: Identity = environ[IDENTITY]
        if identity.name == ANONYMOUS:
            return [self._address(environ)]
        return [identity.name, self._address(environ)] if identity.user_id is not None else [identity.name]

    def _address(self, environ: "WSGIEnvironment") -> str:
        return f"{ANONYMOUS}@{client_address(environ, self._proxies)}"


def client_address(environ: "WSGIEnvironment", proxies: int) -> str:
    """The client's address, as the outermost of so many proxies of ours has seen it. ``X-Forwarded-For`` has an address
    of each of them at its end; what comes before, the client may have made up."""
    forwarded: str | None = environ.get("HTTP_X_FORWARDED_FOR") if proxies else None
    if forwarded is None:
        return str(environ.get("REMOTE_ADDR", ""))
    addresses = [part.strip() for part in forwarded.split(",")]
    return addresses[max(len(addresses) - proxies, 0)][:64]
