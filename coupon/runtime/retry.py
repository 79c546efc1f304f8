"""Waiting for a backend that is away, where nobody is there who would rather know at once."""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from coupon.domain.errors import BackendUnavailable

PAUSE_S = 0.5
AWAY_MAX_S = 30
"""How long a backend is waited for that was there before."""
Result = TypeVar("Result")


class Retrying(Protocol):
    """A way to take a step that asks a backend."""

    def __call__(self, step: Callable[[], Result], /) -> Result: ...


def at_once(step: Callable[[], Result], /) -> Result:
    """Without any patience."""
    return step()


def retry_for(step: Callable[[], Result], tell: Callable[[BackendUnavailable], None]) -> Result:
    """``until``, of a backend that was there before."""
    return retry_until(time.monotonic() + AWAY_MAX_S, step, tell)


def retry_until(deadline: float, step: Callable[[], Result], tell: Callable[[BackendUnavailable], None]) -> Result:
    """Try until it works or the deadline (of ``time.monotonic``) has passed; ``tell`` is told why, once."""
    told = False
    while True:
        try:
            return step()
        except BackendUnavailable as error:
            if time.monotonic() >= deadline:
                raise
            if not told:
                tell(error)
                told = True
        time.sleep(PAUSE_S)
