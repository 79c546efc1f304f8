"""Retrying while a backend is unavailable, for callers who would rather wait than fail at once."""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from coupon.domain.errors import BackendUnavailable

PAUSE_S = 0.5
UNAVAILABLE_MAX_S = 30
"""How long to wait for a backend that answered before."""
Result = TypeVar("Result")


class Retrying(Protocol):
    """Calls a step that uses a backend, and perhaps retries it."""

    def __call__(self, step: Callable[[], Result], /) -> Result: ...


def at_once(step: Callable[[], Result], /) -> Result:
    """Without a retry."""
    return step()


def retry_for(step: Callable[[], Result], on_retry: Callable[[BackendUnavailable], None]) -> Result:
    """``retry_until``, for a backend that answered before."""
    return retry_until(time.monotonic() + UNAVAILABLE_MAX_S, step, on_retry)


def retry_until(deadline: float, step: Callable[[], Result], on_retry: Callable[[BackendUnavailable], None]) -> Result:
    """Retry the step until it succeeds or the deadline (of ``time.monotonic``) has passed; then raise its error.

    ``on_retry`` is called with the first error only."""
    reported = False
    while True:
        try:
            return step()
        except BackendUnavailable as error:
            if time.monotonic() >= deadline:
                raise
            if not reported:
                on_retry(error)
                reported = True
        time.sleep(PAUSE_S)
