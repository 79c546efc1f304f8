"""A queue in a file, whose messages grow old by a timer that is moved by hand."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends.queue.sqlite import SqliteQueue
from backends.testing.timing import Clock


@pytest.fixture
def ageing(tmp_path: Path, clock: Clock) -> Iterator[SqliteQueue]:
    """One partition, messages kept for 100 s once they are committed, and a timer that is moved by hand."""
    queue = SqliteQueue(f"{tmp_path}/queue.db", partitions=1, retention_s=100, lease_s=3_000, timer=clock)
    queue.create(["t", "watched", "dead-letters"])
    yield queue
    queue.close()


@pytest.fixture
def passing(ageing: SqliteQueue, clock: Clock) -> Callable[[float], None]:
    """Time goes by, while a member of some group is there."""
    watcher = ageing.consumer(["watched"], "watching")
    watcher.poll(1, 0)

    def passing(seconds: float) -> None:
        clock.now += seconds
        watcher.poll(1, 0)

    return passing
