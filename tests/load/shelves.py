"""The coupons of a run, by the state in which those who sent the commands take them to be."""

import random
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

KEPT = 50_000
"""Coupons of each state; the oldest are forgotten, as most coupons are."""


class Move(NamedTuple):
    """From which shelf to which a command takes a coupon."""

    source: str
    target: str


MOVES = {
    "issue": Move("fresh", "held"),
    "use": Move("held", "used"),
    "cancel": Move("held", "fresh"),
    "cancel-use": Move("used", "held"),
}


class Piece(NamedTuple):
    """A coupon, and who holds it."""

    code: str
    user_id: str | None = None


def _shelf() -> deque[Piece]:
    return deque(maxlen=KEPT)


@dataclass(slots=True)
class Shelves:
    """Shared by all users of a run: who takes a coupon has it alone until he puts it back."""

    shelf: dict[str, deque[Piece]] = field(
        default_factory=lambda: {name: _shelf() for name in ("fresh", "held", "used")}
    )
    operations: deque[str] = field(default_factory=lambda: deque(maxlen=1_000))
    """Addresses of those that were accepted last."""

    def create(self, codes: list[str]) -> None:
        self.shelf["fresh"].extend(map(Piece, codes))

    def take(self, name: str) -> Piece | None:
        """The one that is there the longest."""
        shelf = self.shelf[name]
        return shelf.popleft() if shelf else None

    def put(self, name: str, piece: Piece) -> None:
        self.shelf[name].append(piece)

    def any_code(self) -> str | None:
        """Of a coupon that somebody holds."""
        held = self.shelf["held"]
        return random.choice(held).code if held else None
