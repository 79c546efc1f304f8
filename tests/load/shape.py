"""How many users there are at which time of a run: a ramp, a plateau, a short spike, the plateau again, a ramp down."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

CORNERS = ((0.0, 0.0), (0.15, 1.0), (0.6, 1.0), (0.6, 1.5), (0.65, 1.5), (0.65, 1.0), (0.9, 1.0), (1.0, 0.0))
"""Shares of the run's time, and of the plateau's users at it; straight lines between them."""
SETTLED_S = 1.0
"""Locust changes the number of users once a second."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A run of ``seconds`` with ``users`` at its plateau."""

    seconds: float
    users: int

    def users_at(self, second: float) -> int:
        """At least one, until it ends."""
        for (began, first), (ended, last) in self._lines():
            if began <= second < ended:
                return max(1, round(self.users * (first + (last - first) * (second - began) / (ended - began))))
        return 0

    def is_plateau(self, second: float) -> bool:
        return any(
            first == last == 1 and began + SETTLED_S <= second < ended
            for (began, first), (ended, last) in self._lines()
        )

    def _lines(self) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
        yield from pairwise((share * self.seconds, users) for share, users in CORNERS)
