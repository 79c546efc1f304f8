"""The time of a queue, by which the age of its messages is measured.

It runs while a group has a member, and no clock that is set moves it. Without members it stands still.
"""

from collections.abc import Callable


class QueueTime:
    """A queue's time, as one member advances it by its ``timer``, which is never set."""

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._began: float | None = None
        """The queue's time when this member's timer was 0."""

    def after(self, stored: float) -> float:
        """The present time, given the time that some member stored last."""
        if self._began is None:
            self._began = stored - self._timer()
        return max(stored, self._began + self._timer())
