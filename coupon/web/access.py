"""Who may call which address: the caller's identity, and whether its role is among those of the address.

| COUPON_AUTH | who the caller is                                                                              |
| ----------- | ---------------------------------------------------------------------------------------------- |
| keys        | the key of ``Authorization: Bearer ck_…``; before the first key, anybody on this machine       |
|             | or the user of ``Authorization: Bearer TOKEN``, where the settings name an issuer of tokens    |
| gateway     | whom the gateway in front names, with the role that it names                                   |
"""

from collections.abc import Set
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from coupon.domain.api_keys import PREFIX, ROLES_OF_KEYS, Identity, Role
from coupon.domain.clock import Clock
from coupon.domain.errors import BackendUnavailable
from coupon.runtime.settings import Settings
from coupon.web.current_keys import CurrentKeys
from coupon.web.problems import Problem
from coupon.web.request_io import IDENTITY, caller_name, environ_name
from coupon.web.user_tokens import InvalidToken, UserTokens

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

Roles = Set[Role]
OF_PROXIES = {"HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_FORWARDED", "HTTP_VIA"}
UNKNOWN_HOST = "coupon.unknown_host"
"""Whether the WSGI environment is of a probe whose ``Host`` is not ours."""
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="coupon"'}


class Access:
    """Thread-safe."""

    def __init__(self, settings: Settings, keys: CurrentKeys, tokens: UserTokens | None, clock: Clock) -> None:
        self._keys, self._tokens, self._clock = keys, tokens, clock
        self._by_gateway = settings.auth == "gateway"
        self._has_proxies = bool(settings.hosts or settings.proxies)
        self._caller_header, self._role_header = settings.caller_header, settings.role_header

    def check(self, environ: "WSGIEnvironment", roles: Roles) -> None:
        """Note the caller's identity in the environment. Raises Problem unless one of the roles is the caller's, and
        BackendUnavailable."""
        environ[IDENTITY] = self._identity(environ)
        self.require(environ, roles)

    def require(self, environ: "WSGIEnvironment", roles: Roles) -> None:
        """Raises Problem unless one of the roles is that of the identity in the environment."""
        identity: Identity = environ[IDENTITY]
        if identity.role not in roles:
            needed = [role.value for role in Role if role in roles]
            detail = f"{identity.name!r} has the role {identity.role}; this takes {' or '.join(needed)}."
            raise Problem("FORBIDDEN", detail, roles=needed)

    def is_known(self, environ: "WSGIEnvironment") -> bool:
        """Whether the caller is identified, whatever its role. A page that calls us by another name is not."""
        if environ.get(UNKNOWN_HOST):
            return False
        try:
            self._identity(environ)
        except (Problem, BackendUnavailable):
            return False
        return True

    def _identity(self, environ: "WSGIEnvironment") -> Identity:
        if self._by_gateway:
            return self._of_gateway(environ)
        scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        if self._tokens is not None and token and not token.startswith(PREFIX):
            try:
                return self._tokens.identity(token)
            except InvalidToken as error:
                raise _unauthenticated(str(error)) from error
        return self._of_key(environ, token)

    def _of_key(self, environ: "WSGIEnvironment", token: str) -> Identity:
        keys = self._keys.get()
        if not keys:
            if self._has_proxies or not _is_of_this_machine(environ):
                raise _unauthenticated("There is no API key yet: an operator makes one with coupon keys create.")
            return Identity(caller_name(environ, self._caller_header), Role.ADMIN)
        if not token:
            raise _unauthenticated("Send an API key: Authorization: Bearer ck_…")
        identity = keys.find(token, self._clock())
        if identity is None:
            raise _unauthenticated("The API key is unknown, expired or revoked.")
        return identity

    def _of_gateway(self, environ: "WSGIEnvironment") -> Identity:
        role = environ.get(environ_name(self._role_header))
        if role not in _ROLES:
            raise _unauthenticated(f"The gateway names no role in {self._role_header}.")
        if environ_name(self._caller_header) not in environ:
            raise _unauthenticated(f"The gateway names no caller in {self._caller_header}.")
        return Identity(caller_name(environ, self._caller_header), _ROLES[role])


@lru_cache
def is_loopback(address: str) -> bool:
    """Whether only programs of this machine reach a TCP socket that listens at that address."""
    try:
        return address == "localhost" or ip_address(address).is_loopback
    except ValueError:
        return False


def _is_of_this_machine(environ: "WSGIEnvironment") -> bool:
    """Whether the request came over TCP from this machine, and could come from no other. A socket in the file system is
    one for a proxy, and gunicorn takes its name from the request. A header of a proxy tells of others."""
    return (
        is_loopback(environ["SERVER_NAME"])
        and is_loopback(environ.get("REMOTE_ADDR", ""))
        and environ.keys().isdisjoint(OF_PROXIES)
    )


def _unauthenticated(detail: str) -> Problem:
    return Problem("UNAUTHENTICATED", detail, CHALLENGE)


_ROLES = {role.value: role for role in ROLES_OF_KEYS}
