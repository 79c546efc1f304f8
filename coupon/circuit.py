"""A backend that failed is left alone until a ping answers again: nobody waits for its time-out once more."""

from coupon.clock import Clock
from coupon.ports.backend import Backend, BackendError

PAUSE_MS, PAUSE_MAX_MS = 500, 10_000


class Circuit:
    """``open`` it after a failure; ``is_open`` pings when it is time to, later each time."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._backend, self._clock = backend, clock
        self._pause_ms = 0
        self._since = 0

    def open(self) -> None:
        self._pause_ms = min(max(self._pause_ms * 2, PAUSE_MS), PAUSE_MAX_MS)
        self._since = self._clock()

    def is_open(self) -> bool:
        """Whether the backend failed last time and has not answered a ping since."""
        if self._pause_ms and not 0 <= self._clock() - self._since < self._pause_ms:  # also when the clock was set back
            try:
                self._backend.ping()
            except BackendError:
                self.open()
            else:
                self._pause_ms = 0
        return self._pause_ms > 0
