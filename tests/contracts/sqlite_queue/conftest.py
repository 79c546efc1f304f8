"""A queue in a file, whose messages grow old by a timer that is moved by hand."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.queue.sqlite import SqliteQueue
from backends.testing.timing import Clock
from tests.contracts.ageing_queue import TOPICS


@pytest.fixture
def ageing(tmp_path: Path, clock: Clock) -> Iterator[SqliteQueue]:
    """One partition, messages kept for 100 s once they are committed, and a timer that is moved by hand."""
    queue = SqliteQueue(f"{tmp_path}/queue.db", partitions=1, retention_s=100, lease_s=3_000, timer=clock)
    queue.create(TOPICS)
    yield queue
    queue.close()
