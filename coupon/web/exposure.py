"""Before the first request: who can reach the service, and whether it asks them for a key.

A service that others can reach does not start without a key. Where that is not known at the start (the store is away, a
socket of systemd), ``coupon/web/access.py`` refuses each request.
"""

from collections.abc import Iterable

import structlog

from coupon.domain.api_keys import ApiKeys
from coupon.domain.errors import BackendError, ConfigurationError
from coupon.ports.store import Store
from coupon.runtime.api_keys import read_api_keys
from coupon.runtime.settings import Settings
from coupon.runtime.wiring import open_backend
from coupon.web.access import is_loopback

log = structlog.get_logger("coupon.web")


def check_start(settings: Settings, addresses: Iterable[object]) -> None:
    """Check a start that listens at these addresses: (host, port), or the path of a socket. Logs what an operator
    should know; raises ConfigurationError."""
    outside = [address for address in addresses if not (isinstance(address, tuple) and is_loopback(address[0]))]
    if outside:
        log.warning("not encrypted", addresses=list(map(_shown, outside)), remedy="a proxy in front has to speak TLS")
    if settings.auth == "gateway":
        return
    keys = _keys(settings)
    if keys is None or keys:
        return
    if outside:
        raise ConfigurationError(
            f"{_shown(outside[0])} can be reached by others, and there is no API key:"
            " run coupon keys create --name admin --role admin first; or set COUPON_AUTH=gateway where a gateway in"
            " front names the callers and their roles, or HOST=127.0.0.1"
        )
    log.warning(
        "open", reason="there is no API key, so whoever is on this machine may do all", remedy="coupon keys create"
    )


def _keys(settings: Settings) -> ApiKeys | None:
    """None when the store does not answer. The store is opened for this only: nothing of it is inherited by a fork."""
    store = open_backend(Store, settings.store_url)  # type: ignore[type-abstract]
    try:
        return read_api_keys(store)
    except BackendError as error:
        log.warning("API keys unavailable", error=str(error))
        return None
    finally:
        store.close()


def _shown(address: object) -> str:
    return ":".join(map(str, address)) if isinstance(address, tuple) else str(address)
