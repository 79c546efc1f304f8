"""A figure and its yardstick, taken in turns, so that what slows the machine down slows both."""

import gc
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROUNDS = 15


@dataclass
class Figure:
    """Values of ``ours`` and of the ``yardstick`` in the same ``unit``, one a round.

    The goal is for their ratio, or for our value itself where there is no yardstick: ``at_most``, ``at_least`` or none.
    ``of_record`` is a yardstick that was measured once, elsewhere, such as the original's.
    """

    name: str
    unit: str
    yardstick: str = ""
    at_most: float | None = None
    at_least: float | None = None
    of_record: float | None = None
    ours: list[float] = field(default_factory=list)
    against: list[float] = field(default_factory=list)

    @property
    def value(self) -> float:
        """What the goal is for: the median of the rounds' ratios where each round has a yardstick of its own."""
        if self.of_record is not None:
            return median(self.ours) / self.of_record
        if len(self.ours) == len(self.against):
            return median(ours / against for ours, against in zip(self.ours, self.against, strict=True))
        return median(self.ours) / median(self.against) if self.against else median(self.ours)

    @property
    def is_reached(self) -> bool | None:
        """None where there is nothing to reach."""
        if not self.goal:
            return None
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    @property
    def goal(self) -> str:
        sign, limit = ("≥", self.at_least) if self.at_most is None else ("≤", self.at_most)
        if limit is None:
            return ""
        return f"{sign} {limit:g}{'×' if self.yardstick else ' ' + self.unit}"

    def as_json(self) -> dict[str, Any]:
        return {
            "figure": self.name,
            "unit": self.unit,
            "rounds": len(self.ours),
            "ours": spread(self.ours),
            "yardstick": self.yardstick or None,
            "against": spread(self.against if self.of_record is None else [self.of_record]),
            "ratio": float(f"{self.value:.4g}") if self.yardstick else None,
            "goal": self.goal,
            "reached": self.is_reached,
        }


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Median, least and most, in four digits."""
    if not values:
        return None
    return {name: float(f"{of(values):.4g}") for name, of in (("median", median), ("min", min), ("max", max))}


def cpu_s(pids: Iterable[int]) -> float:
    """CPU time that these processes have had so far, theirs and the kernel's for them, in seconds. Those that have
    ended count as nothing: PostgreSQL starts some for a moment."""
    ticks = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


def cpu_us(work: Callable[[Any], object], items: Iterable[Any]) -> float:
    """CPU time of this process for one item, in µs; garbage is collected before, and not during."""
    items = list(items)
    gc.collect()
    gc.disable()
    try:
        began = time.process_time()
        for item in items:
            work(item)
        return (time.process_time() - began) / len(items) * 1e6
    finally:
        gc.enable()
