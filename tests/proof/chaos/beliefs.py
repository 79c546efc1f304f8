"""What a client takes the coupons for: it mostly asks for what should work, and is put right by the answers."""

import random
import threading
from dataclasses import dataclass

from coupon.domain.model import Kind

RETIRED_AFTER = 40
"""Commands that a coupon may have seen: it remembers 100, and the verdict wants whole histories."""
HOT = 4
HOLDERS = [f"user{number}" for number in range(40)]
FITTING = {"created": [Kind.ISSUE], "issued": [Kind.USE, Kind.CANCEL], "used": [Kind.CANCEL_USE]}
AFTER = {Kind.ISSUE: "issued", Kind.USE: "used", Kind.CANCEL: "created", Kind.CANCEL_USE: "issued"}
PROVEN = {"ALREADY_USED": "used", "ALREADY_ISSUED": "issued", "NOT_ISSUED": "created"}
"""The state that a refusal tells of."""
CHANGES = list(AFTER)


@dataclass(slots=True)
class Belief:
    """A coupon as a client takes it to be."""

    code: str
    ready: float
    """When it should be there."""
    state: str = "created"
    holder: str | None = None
    commands: int = 0

    def next(self, chance: random.Random) -> tuple[Kind, str | None]:
        """A command, and its user: one that should work, but sometimes any."""
        kind = chance.choice(CHANGES if chance.random() < 0.1 else FITTING[self.state])
        if kind is Kind.ISSUE:
            return kind, chance.choice(HOLDERS)
        if kind is Kind.USE and chance.random() < 0.5:
            return kind, chance.choice(HOLDERS) if chance.random() < 0.1 else self.holder
        return kind, None

    def accepted(self, kind: Kind, user_id: str | None) -> None:
        self.state = AFTER[kind]
        self.holder = user_id if kind is Kind.ISSUE else self.holder

    def refused(self, kind: Kind, reason: str) -> None:
        self.state = PROVEN.get(reason, self.state)
        if reason == "NOT_USED" and self.state == "used":
            self.state = "issued"
        if reason == "NOT_HOLDER":
            self.holder = None
        if kind is Kind.ISSUE and reason == "ALREADY_ISSUED":
            self.holder = None


class Hot:
    """A few codes that all clients share, and replace when they have seen enough."""

    def __init__(self) -> None:
        self._beliefs: list[Belief] = []
        self._lock = threading.Lock()

    def pick(self, chance: random.Random, own: list[Belief]) -> Belief | None:
        """One of them; ``own`` gives up coupons to fill what is missing."""
        with self._lock:
            self._beliefs = [belief for belief in self._beliefs if belief.commands < RETIRED_AFTER]
            while len(self._beliefs) < HOT and own:
                self._beliefs.append(own.pop(chance.randrange(len(own))))
            return chance.choice(self._beliefs) if self._beliefs else None
