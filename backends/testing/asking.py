"""Ask a backend several things at once, and tell what becomes of each."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from coupon.domain.errors import BackendRejected, BackendUnavailable

Calls = Mapping[str, Callable[[], Any]]
ANSWERED, UNAVAILABLE, REJECTED, LATE = "answered", "unavailable", "rejected", "too late"
"""What becomes of a call. Anything else is the driver's own error, which has no business there. Behind ``LATE`` are
the seconds after which it was."""


def at_once(calls: Calls, within_s: float) -> dict[str, str]:
    """What becomes of each within so many seconds. A thread that is late is left to itself."""
    found: dict[str, str] = {}
    threads = [threading.Thread(target=_ask, args=(name, call, found), daemon=True) for name, call in calls.items()]
    deadline = time.monotonic() + within_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict.fromkeys(calls, f"{LATE}: no end after {within_s:.2f} s") | dict(found)


def _ask(name: str, call: Callable[[], Any], found: dict[str, str]) -> None:
    try:
        call()
    except BackendUnavailable:
        found[name] = UNAVAILABLE
    except BackendRejected:
        found[name] = REJECTED
    except BaseException as error:
        found[name] = f"raised {error!r}"
    else:
        found[name] = ANSWERED
