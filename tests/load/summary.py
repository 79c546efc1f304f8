"""What is kept and printed of a run, from what Locust counted."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.load.shape import Shape

HEAD = "| request | number | failed | p50 ms | p95 ms | p99 ms |\n| --- | ---: | ---: | ---: | ---: | ---: |"


class Named(NamedTuple):
    """Requests of one name."""

    method: str
    name: str
    requests: int
    failures: int
    p50_ms: int
    p95_ms: int
    p99_ms: int


class Counts:
    """What Locust counted; times are rounded to two digits."""

    def __init__(self, file: Path, shape: Shape) -> None:
        counted = json.loads(file.read_text())
        self._entries, self._shape = counted["entries"], shape
        self.began = min((entry["start_time"] for entry in self._entries), default=0.0)
        self.ended = max((entry["last_request_timestamp"] for entry in self._entries), default=0.0)
        self.named = sorted(map(_named, self._entries), key=lambda it: (it.method == "GET", it.name))
        self.requests = sum(it.requests for it in self.named)
        self.failures = sum(it.failures for it in self.named)
        self.complaints = [f"{it['occurrences']} × {it['name']}: {it['error']}" for it in counted["errors"]]
        self.complaints += [f"{it['count']} × {it['msg']}\n{it['traceback']}" for it in counted["exceptions"]]
        """A sentence for each kind of failure, and what broke in the clients themselves."""

    def plateau(self, *methods: str) -> float:
        """Requests of these methods a second, at the plateau."""
        seconds = [second for second in range(int(self.began), int(self.ended)) if self._is_plateau(second)]
        done: Counter[int] = Counter()
        for entry in self._entries:
            if entry["method"] in methods:
                done.update({int(second): number for second, number in entry["num_reqs_per_sec"].items()})
        return sum(done[second] for second in seconds) / len(seconds) if seconds else 0.0

    def _is_plateau(self, second: int) -> bool:
        return self._shape.is_plateau(second - self.began)


def table(named: Iterable[Named]) -> str:
    rows = (
        f"| {it.name} | {it.requests:,} | {it.failures:,} | {it.p50_ms:,} | {it.p95_ms:,} | {it.p99_ms:,} |"
        for it in named
    )
    return "\n".join([HEAD, *rows])


def percentile(times: Mapping[int, int], share: float) -> int:
    """The time within which so many were answered; ``times`` has how often each time was seen."""
    left = share * sum(times.values())
    for ms in sorted(times):
        left -= times[ms]
        if left <= 0:
            return ms
    return 0


def _named(entry: dict[str, Any]) -> Named:
    times = {int(ms): number for ms, number in entry["response_times"].items()}
    counted = entry["num_requests"], entry["num_failures"]
    return Named(entry["method"], entry["name"], *counted, *(percentile(times, share) for share in (0.5, 0.95, 0.99)))
