"""A figure and its yardstick, taken in turns, so that what slows the machine down slows both."""

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

ROUNDS = 7


@dataclass
class Figure:
    """``ours`` and ``yardstick`` are values of the same ``unit``, a value a round; ``goal`` is the ratio to reach."""

    name: str
    against: str
    unit: str
    goal: str
    ours: list[float] = field(default_factory=list)
    yardstick: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return median(self.ours) / median(self.yardstick)

    def as_json(self) -> dict[str, Any]:
        return {
            "figure": self.name,
            "yardstick": self.against,
            "unit": self.unit,
            "goal": self.goal,
            "ratio": round(self.ratio, 3),
            "ours": _spread(self.ours),
            "yardstick value": _spread(self.yardstick),
        }


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


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}
