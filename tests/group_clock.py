"""How many callers wait in a group commit: each asks the clock how long it may wait, once it is among the others."""

import time


class GroupClock:
    """Stands for ``time`` in ``coupon.ports.group_commit``: counts who waits, and writes down who would have slept."""

    def __init__(self) -> None:
        self._asked: list[float] = []
        self.slept: list[float] = []

    @property
    def waiting(self) -> int:
        """Callers that have begun to wait, also those that were served since."""
        return len(self._asked)

    def monotonic(self) -> float:
        self._asked.append(time.monotonic())
        return self._asked[-1]

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
