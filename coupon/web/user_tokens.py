"""Tokens of users, signed by who logs them in (RFC 7519): whose it is, and nothing else of it, is believed."""

from hashlib import blake2b
from importlib.util import find_spec
from urllib.parse import urlsplit

from coupon.domain.api_keys import Identity, Role
from coupon.domain.clock import Clock
from coupon.domain.errors import ConfigurationError
from coupon.runtime.settings import Settings
from coupon.web.fields import fault_of_user_id
from coupon.web.signing_keys import SigningKeys

ALGORITHMS = ["RS256", "ES256", "EdDSA"]
REQUIRED = ["exp", "iss", "aud", "sub"]
LEEWAY_S = 10
"""How much the clocks of the two sides may differ."""


class InvalidToken(Exception):
    """The message says why, to the caller."""


class UserTokens:
    """Tokens of one issuer, for one audience. Thread-safe."""

    def __init__(self, issuer: str, audience: str, keys: SigningKeys) -> None:
        self._issuer, self._audience, self._keys = issuer, audience, keys

    def identity(self, token: str) -> Identity:
        """The user that the token is of. Raises InvalidToken, and BackendUnavailable while no signing key is known."""
        import jwt

        try:
            key = self._keys.get(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                raise InvalidToken("The token is signed with an unknown key.")
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": REQUIRED, "strict_aud": False},
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise InvalidToken(f"The token is not valid: {error}.") from error
        user_id: str = claims["sub"]
        if fault := fault_of_user_id(user_id):
            raise InvalidToken(f"The token's sub is no user's id. {fault}")
        return Identity(_caller_name(self._issuer, user_id), Role.USER, user_id)


def open_user_tokens(settings: Settings, timer: Clock) -> UserTokens | None:
    """None where the settings name no issuer. Raises ConfigurationError. Does no I/O."""
    chosen = (settings.jwt_issuer, settings.jwt_audience, settings.jwt_jwks)
    if not any(chosen):
        return None
    if not all(chosen):
        raise ConfigurationError("COUPON_JWT_ISSUER, COUPON_JWT_AUDIENCE and COUPON_JWT_JWKS: set all three, or none")
    if "://" in settings.jwt_jwks and not _is_safe(settings.jwt_jwks):
        raise ConfigurationError(f"COUPON_JWT_JWKS={settings.jwt_jwks!r} is no file, and no URL with https://")
    if find_spec("jwt") is None or find_spec("cryptography") is None:
        raise ConfigurationError("COUPON_JWT_ISSUER: a module is missing; run: pip install 'coupon[jwt]'")
    return UserTokens(settings.jwt_issuer, settings.jwt_audience, SigningKeys(settings.jwt_jwks, timer))


def _is_safe(url: str) -> bool:
    """Whether nobody on the way can change what is read from there."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"))


def _caller_name(issuer: str, user_id: str) -> str:
    """A name that fits into histories and logs, and tells nobody whose it is."""
    whole = "\0".join((issuer, user_id)).encode()
    return f"user:{blake2b(whole, digest_size=12).hexdigest()}"
