"""What may go wrong between a process and its backends, drawn from the run's random numbers.

Every run draws which faults there are at all, and how many. A run with a few kinds of fault finds what would drown
among all of them.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from enum import StrEnum
from random import Random


class Fault(StrEnum):
    """What happens to one call, or to who makes it."""

    LOST_REQUEST = "request lost"
    LOST_REPLY = "reply lost"
    LATE = "applied after its time-out"
    PART = "applied in part"
    TWICE = "message duplicated, later"
    AWAY = "backend away for one process"
    CUT_OFF = "web process that never reaches the cache (of a run)"
    OUTAGE = "backend away for all"
    TERM = "worker told to stop"
    CRASH = "process killed"
    FREEZE = "process stopped, goes on later"
    WIPE = "cache wiped"
    EVICT = "cache entry lost"
    REUSE = "key reused with other words"
    RACE = "key used with two requests at once"
    STALL = "all workers stopped or slow"
    SHORT_TTL = "cache entries live for seconds (of a run)"
    SHORT_MEMORY = "coupons remember little (of a run)"
    RUN_OUT = "web process killed at a publish"
    CLOCK = "clock set back or ahead"
    READ_ONLY = "search pings and refuses writes"
    NO_COMMIT = "publishing works, committing fails"
    PLANT = "cache entry planted"
    POISON = "message that nobody can read"
    FORGE = "messages written without a key"


NOT_YET: frozenset[Fault] = frozenset()
"""Those that the service does not bear yet: only with ``--all``. What is mended comes out of here."""
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
    Fault.REUSE: (0.1, 0.3),
    Fault.RACE: (0.1, 0.3),
    Fault.STALL: (0.01, 0.05),
    Fault.SHORT_TTL: (1,),
    Fault.SHORT_MEMORY: (1,),
    Fault.RUN_OUT: (0.01, 0.05),
    Fault.CLOCK: (0.01, 0.1),
    Fault.READ_ONLY: (0.01, 0.05),
    Fault.NO_COMMIT: (0.01, 0.05),
    Fault.PLANT: (0.01, 0.1),
    Fault.POISON: (0.01, 0.05),
}
"""How often a fault may be, a call (or a look of the operator, or a command of a client). One rate of each, or none, is
drawn for a run."""
SHARE, SHARE_OF_LATER = 0.5, 0.3
"""Of the runs that have a fault: of those above ``REUSE``, and of those from there on."""
SHARE_OF_RIVALS = 0.3
"""Of the runs in which a web process never reaches the cache, and so is the rival of all others. It is drawn from
random numbers of its own: the other runs are as they were before there was this fault."""
SHARE_OF_FORGED, RATE_OF_FORGED = 0.3, 0.1
"""Of the runs in which somebody writes into the topics without a key, and how often he does at a look of the operator.
It is drawn from random numbers of its own, too."""

COMMITS, DOCUMENTS = "commits", "documents"
"""What may be away of the queue and of search, while the rest works."""
HURT_THE_CACHE = {Fault.WIPE, Fault.EVICT, Fault.SHORT_TTL, Fault.PLANT}


class Faults:
    """``strikes(fault)`` draws whether it happens now; ``calm`` ends them all.

    ``mild`` faults are those that leave the cache, the publishing and the web processes alone: then whoever was told
    yes has won.
    """

    def __init__(self, random: Random, without: Collection[Fault] = NOT_YET) -> None:
        self._random = random
        self.mild = random.random() < 0.25
        later = list(RATES)[list(RATES).index(Fault.REUSE) :]
        shares = {fault: SHARE_OF_LATER if fault in later else SHARE for fault in RATES}
        drawn = {fault: random.choice(rates) for fault, rates in RATES.items() if random.random() < shares[fault]}
        self.rates = {fault: rate for fault, rate in drawn.items() if fault not in without}
        self.injected: Counter[Fault] = Counter()
        self.outages: dict[str, float] = {}
        """Until when a role is away for all; or ``COMMITS``, or ``DOCUMENTS``, only."""
        self.stalled = 0.0, 0.0
        """Until when all workers are stopped, or slow; and for how long at each of their calls."""
        self.commands_polled = self.owed = 0
        """Messages that were delivered to workers, but for those of what is owed; and how often documents were owed."""
        self.cache_was_well = True
        """Nothing was lost from the cache, and everybody could always reach it."""

    def calm(self) -> None:
        self.rates, self.outages, self.stalled = {}, {}, (0.0, 0.0)

    def strikes(self, fault: Fault, *, harsh: bool = True) -> bool:
        """``harsh``: it would not be a mild one here."""
        rate = self.rates.get(fault)
        if rate is None or (harsh and self.mild) or self._random.random() >= rate:
            return False
        self.note(fault)
        return True

    def note(self, fault: Fault) -> None:
        """It happened."""
        self.injected[fault] += 1
        self.cache_was_well &= fault not in HURT_THE_CACHE
