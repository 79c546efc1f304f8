"""How long the worker waits before it tries an unavailable backend again."""

import random

PAUSE_S, PAUSE_MAX_S = 0.1, 5.0


class Backoff:
    """Pauses that double with each failure, until something has worked again."""

    def __init__(self) -> None:
        self._failures = 0

    def next_pause_s(self) -> float:
        pause_s = min(PAUSE_S * 2.0**self._failures, PAUSE_MAX_S) * random.uniform(0.5, 1)  # noqa: S311 - jitter
        self._failures = min(self._failures + 1, 10)
        return pause_s

    def reset(self) -> None:
        self._failures = 0
