"""What a run is asked for, and what it tells."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.proof.chaos.plan import Servers

LONG_S = 600
"""From here on a run has had the time to meet every kind of fault that it was asked for."""


@dataclass
class Options:
    """What a run is asked for: either minutes, or commands with kills."""

    seed: int
    minutes: float | None = None
    commands: int = 5_000
    kills: int = 20
    clients: int = 16
    rate: float | None = None
    topics: str = "single"
    search: str = Servers().search
    links: bool = True
    edge: float = 0.02
    rest_s: float = 120

    @property
    def servers(self) -> Servers:
        return Servers(search=self.search)

    @property
    def place(self) -> tuple[Servers, str, bool, float]:
        """What the surroundings have to be."""
        return self.servers, self.topics, self.links, self.edge

    @property
    def haste(self) -> float:
        """By how much pauses and stops are shorter than in a long run."""
        return 1 if self.minutes else 2.5


@dataclass
class Result:
    """What the report tells. The run counts and measures; what follows from its records, the verdict adds."""

    options: Options
    secret: str = ""
    seconds: float = 0
    ended: float = 0
    """When the probe stopped, by the clock of the records."""
    sent: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    commands: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    edge: dict[str, int] = field(default_factory=dict)
    links: dict[str, int] = field(default_factory=dict)
    """Bytes that came through each, of both directions the fewer."""
    lag: int = -1
    left: dict[str, int] = field(default_factory=dict)
    """Messages at the end, by topic."""
    lag_max: int = 0
    drained_s: float = 0
    converged_s: float | None = None
    own: list[tuple[str, str]] = field(default_factory=list)
    """Violations that no record tells of but the run itself saw: promise, and what."""
    outcomes: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)
    """Answers that came later than they are promised, or not at all, by the fault that excuses it."""
    recovery: dict[str, list[tuple[float | None, float | None]]] = field(default_factory=dict)
    """By kind of fault: seconds to the first accepted and the first applied command, each time."""
    checked: dict[str, int] = field(default_factory=dict)
    unjudged: list[str] = field(default_factory=list)
    """What a run that was saved by an earlier harness has no records of."""
    violations: list[tuple[str, str]] = field(default_factory=list)

    @property
    def is_long(self) -> bool:
        return self.seconds >= LONG_S

    def count_edge(self, folder: Path) -> None:
        """Each process wrote down its own."""
        counted: Counter[str] = Counter()
        for log in folder.glob("*.edge"):
            counted.update(log.read_text().split())
        self.edge = dict(counted)

    def save(self, folder: Path) -> None:
        (folder / "run.json").write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, folder: Path) -> "Result":
        saved = json.loads((folder / "run.json").read_text())
        return cls(**{**saved, "options": Options(**saved["options"])})
