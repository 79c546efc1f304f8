"""Counters, gauges and histograms: plain numbers in the memory of a process, with the names and labels of Prometheus.

An observation takes less than a microsecond. One of prometheus_client in its mode for several processes takes ten times
as long, because it writes to a mapped file. Here a process hands its numbers over once a second
(``coupon/runtime/metrics_folder.py``), and ``coupon/runtime/metrics_text.py`` shows them.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The upper bounds of a histogram's buckets, in seconds."""
Labels = tuple[str, ...]
Cells = dict[Labels, list[float]]
"""By the labels' values: one number. Of a histogram the number of values in each bucket, above all of them, and the
sum."""
Numbers = dict[str, Cells]
"""By the instrument's name."""
ALL: "list[Instrument]" = []
"""Every instrument, in the order in which they are shown."""


class Instrument:
    """``labels`` are the names of the labels; each observation gives their values, in that order.

    Thread-safe without a lock, which would cost as much as all else: CPython switches threads at calls and loops only,
    and none is within ``+=``."""

    kind = ""

    def __init__(self, name: str, help_text: str, *labels: str) -> None:
        self.name, self.help_text, self.labels = name, help_text, labels
        self._cells: Cells = {}
        ALL.append(self)

    def read(self) -> Cells:
        """A copy of the numbers as they are now."""
        return {labels: cell.copy() for labels, cell in self._cells.copy().items()}

    def _new(self, labels: Labels, size: int) -> list[float]:
        return self._cells.setdefault(labels, [0.0] * size)


class Counter(Instrument):
    """Only grows. It is shown with ``_total`` at the end of its name."""

    kind = "counter"

    def add(self, *labels: str, by: float = 1) -> None:
        cell = self._cells.get(labels) or self._new(labels, 1)
        cell[0] += by


class Gauge(Instrument):
    """A number as it is now. That of several processes is their sum, without those that have ended."""

    kind = "gauge"

    def __init__(self, name: str, help_text: str, *labels: str) -> None:
        super().__init__(name, help_text, *labels)
        self._watched: dict[Labels, Callable[[], float]] = {}

    def set(self, value: float, *labels: str) -> None:
        cell = self._cells.get(labels) or self._new(labels, 1)
        cell[0] = value

    def add(self, by: float, *labels: str) -> None:
        cell = self._cells.get(labels) or self._new(labels, 1)
        cell[0] += by

    def watch(self, value: Callable[[], float], *labels: str) -> None:
        """Have the value looked up whenever the numbers are read."""
        self._watched[labels] = value

    def read(self) -> Cells:
        return super().read() | {labels: [value()] for labels, value in self._watched.copy().items()}


class Histogram(Instrument):
    """How long something took."""

    kind = "histogram"

    def observe(self, seconds: float, *labels: str) -> None:
        bucket = bisect_left(BUCKETS_S, seconds)
        cell = self._cells.get(labels) or self._new(labels, len(BUCKETS_S) + 2)
        cell[bucket] += 1
        cell[-1] += seconds


def numbers() -> Numbers:
    """Those of this process."""
    return {instrument.name: instrument.read() for instrument in ALL}


def added(several: Iterable[Numbers]) -> Numbers:
    """The sums over several processes."""
    sums: Numbers = {}
    for each in several:
        for name, cells in each.items():
            _add(sums.setdefault(name, {}), cells)
    return sums


def without_gauges(counted: Numbers) -> Numbers:
    """What stays true of a process that has ended."""
    gauges = {instrument.name for instrument in ALL if isinstance(instrument, Gauge)}
    return {name: cells for name, cells in counted.items() if name not in gauges}


def _add(sums: Cells, cells: Mapping[Labels, list[float]]) -> None:
    for labels, cell in cells.items():
        known = sums.get(labels)
        sums[labels] = cell if known is None else [one + other for one, other in zip(known, cell, strict=True)]
