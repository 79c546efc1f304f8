"""How we know that Kafka is Kafka, and how it knows us: the driver's settings for TLS and SASL."""

from typing import Any

from backends.tls import OPTIONS as TLS
from backends.tls import trust
from coupon.domain.errors import ConfigurationError
from coupon.ports.url import Url

MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
OPTIONS: dict[str, Any] = {**TLS, "certificate": "", "key": "", "sasl": MECHANISMS[0]}
"""What the URL has for it, beside user and password. ``sasl`` is how they are shown."""
PROTOCOLS = {
    (False, False): "PLAINTEXT",
    (True, False): "SSL",
    (False, True): "SASL_PLAINTEXT",
    (True, True): "SASL_SSL",
}
"""By whether there is TLS, and a user."""


def security(url: Url, sasl: str, **tls: Any) -> dict[str, Any]:
    """Raises ConfigurationError."""
    if sasl not in MECHANISMS:
        raise ConfigurationError(f"sasl={sasl!r} is not one of {', '.join(MECHANISMS)}")
    if bool(url.user) != bool(url.password):
        raise ConfigurationError(f"{url} names a user without a password, or a password without a user")
    context = trust(**tls)
    settings = {"security_protocol": PROTOCOLS[context is not None, bool(url.user)], "ssl_context": context}
    if not url.user:
        return settings
    user = url.user if sasl == "PLAIN" else _scram_name(url.user)
    return settings | {"sasl_mechanism": sasl, "sasl_plain_username": user, "sasl_plain_password": url.password}


def _scram_name(user: str) -> str:
    """As it stands in a message of SCRAM (RFC 5802, 5.1): the driver does not escape it."""
    return user.replace("=", "=3D").replace(",", "=2C")
