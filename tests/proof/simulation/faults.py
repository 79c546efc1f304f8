"""What may go wrong between a process and its backends, drawn from the run's random numbers.

Every run draws which faults there are at all, and how many: a run with a few kinds of fault finds what one with all of
them drowns.
"""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from random import Random


class Fault(StrEnum):
    """What happens to one call, or to who makes it."""

    LOST_REQUEST = "request lost"
    LOST_REPLY = "reply lost"
    LATE = "carried out after its time-out"
    PART = "carried out in part"
    TWICE = "message duplicated, later"
    AWAY = "backend away for one process"
    OUTAGE = "backend away for all"
    TERM = "worker told to stop"
    CRASH = "process killed"
    FREEZE = "process stopped, goes on later"
    WIPE = "cache wiped"
    EVICT = "cache entry lost"


RATES: Mapping[Fault, tuple[float, ...]] = {
    Fault.LOST_REQUEST: (0.01, 0.05, 0.2),
    Fault.LOST_REPLY: (0.01, 0.05, 0.2),
    Fault.LATE: (0.01, 0.05, 0.2),
    Fault.PART: (0.02, 0.1),
    Fault.TWICE: (0.02, 0.1, 0.5),
    Fault.AWAY: (0.002, 0.01),
    Fault.OUTAGE: (0.01, 0.05),
    Fault.TERM: (0.01, 0.05),
    Fault.CRASH: (0.002, 0.01, 0.05),
    Fault.FREEZE: (0.002, 0.01),
    Fault.WIPE: (0.001, 0.01),
    Fault.EVICT: (0.01, 0.1),
}
"""How often a fault may be, a call (or a look of the operator). One rate of each, or none, is drawn for a run."""


class Faults:
    """``strikes(fault)`` draws whether it happens now; ``calm`` ends them all.

    ``mild`` faults are those that leave the cache, the publishing and the web processes alone: then whoever was told
    yes has won.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self.mild = random.random() < 0.25
        self.rates = {fault: random.choice(rates) for fault, rates in RATES.items() if random.random() < 0.5}
        self.injected: Counter[Fault] = Counter()
        self.outages: dict[str, float] = {}
        """Until when a role is away for all."""

    def calm(self) -> None:
        self.rates, self.outages = {}, {}

    def strikes(self, fault: Fault, *, harsh: bool = True) -> bool:
        """``harsh``: it would not be a mild one here."""
        rate = self.rates.get(fault)
        if rate is None or (harsh and self.mild) or self._random.random() >= rate:
            return False
        self.injected[fault] += 1
        return True
