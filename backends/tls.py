"""TLS to a server: whom we trust, and who we are."""

import ssl
from typing import Any

from coupon.domain.errors import ConfigurationError

OPTIONS: dict[str, Any] = {"tls": False, "ca": ""}
"""What a backend takes in its URL."""


class TlsSocket(ssl.SSLSocket):
    """Closes when the other side has hung up. Python itself leaves one open whose peer did so before TLS began."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except ConnectionError:
            self.close()
            raise


def trust(tls: bool, ca: str = "", certificate: str = "", key: str = "") -> ssl.SSLContext | None:
    """None without TLS. The host's name in the server's certificate is always checked.

    ``ca`` is a file of the authorities to trust. Without it, they are those of the machine, or of ``SSL_CERT_FILE``.
    ``certificate`` and ``key`` are files that show the server who we are. ``key`` may be in the file of the
    certificate. All are read now, once. Raises ConfigurationError."""
    if not tls:
        for name, file in (("ca", ca), ("certificate", certificate), ("key", key)):
            if file:
                raise ConfigurationError(f"{name}={file!r} is of no use without tls=true")
        return None
    if key and not certificate:
        raise ConfigurationError(f"key={key!r} is of no use without a certificate")
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        raise ConfigurationError(f"ca={ca!r} is no file of certificates that can be read: {_reason(error)}") from error
    context.sslsocket_class = TlsSocket
    try:
        if certificate:
            context.load_cert_chain(certificate, key or None, password=_no_password)
    except OSError as error:
        files = f"certificate={certificate!r}" + (f" with key={key!r}" if key else "")
        raise ConfigurationError(f"{files} cannot be used: {_reason(error)}") from error
    return context


def _no_password() -> bytes:
    """For a key that has one: OpenSSL would ask at the terminal."""
    return b""


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
