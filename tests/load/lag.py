"""How far the workers are behind, once a second."""

import csv
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from coupon.domain.errors import BackendError, BackendUnavailable
from coupon.domain.topics import GROUP, command_topics
from coupon.ports.queue import Queue
from coupon.runtime import settings
from coupon.runtime.wiring import open_backend
from tests.e2e.deployment import eventually

START_WITHIN_S = 30.0


class Sample(NamedTuple):
    """``lag`` is None when the queue did not answer."""

    at: float
    lag: int | None


class Lag:
    """The lag of these topics, as it was seen."""

    def __init__(self, queue: Queue, topics: list[str]) -> None:
        self._queue, self._topics = queue, topics
        self.samples: list[Sample] = []

    @property
    def largest(self) -> int:
        return max((sample.lag or 0 for sample in self.samples), default=0)

    def look(self) -> int | None:
        try:
            lag = self._queue.lag(self._topics, GROUP)
        except BackendError:
            lag = None
        self.samples.append(Sample(time.time(), lag))
        return lag

    def back_after(self, ended: float, within_s: float) -> float | None:
        """Seconds from ``ended`` until there was none any more; None when that took too long."""
        while True:
            back = next((at for at, lag in self.samples if at >= ended and lag == 0), None)
            if back is not None or time.time() > ended + within_s:
                return None if back is None else back - ended
            time.sleep(0.1)
            self.look()

    def write(self, file: Path, began: float) -> None:
        """A line a look, with the seconds since ``began``."""
        with file.open("w", newline="") as lines:
            table = csv.writer(lines)
            table.writerow(["second", "lag"])
            table.writerows((f"{at - began:.1f}", lag) for at, lag in self.samples)


@contextmanager
def watched(environ: Mapping[str, str]) -> Iterator[Lag]:
    """The lag of the service with that environment; raises BackendRejected when its queue does not know the topics,
    as that of another service would not."""
    loaded = settings.load(environ)
    topics, queue = command_topics(loaded.topics), open_backend(Queue, loaded.queue_url)  # type: ignore[type-abstract]
    try:
        eventually(lambda: queue.lag(topics, GROUP) >= 0, START_WITHIN_S, BackendUnavailable)
        yield Lag(queue, topics)
    finally:
        queue.close()
