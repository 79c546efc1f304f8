"""The queue in a file stands what every queue has to stand, also across processes."""

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from backends.testing.queue import QueueContract
from backends.testing.queue_driving import messages, opened, poll
from backends.testing.queue_offsets import Trim
from backends.testing.queue_planted import Plant, QueuePlanted
from backends.testing.queue_processes import QueueAcrossProcesses, another_process, poll_and_commit
from coupon.ports.queue import Position, Queue


class TestSqliteQueue(QueueContract, QueueAcrossProcesses, QueuePlanted):
    lease_s = 2.0

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/queue.db?partitions=4&lease_s={self.lease_s}"

    @pytest.fixture
    def gone_url(self, tmp_path: Path) -> str:
        (tmp_path / "file").write_text("not a folder")
        return f"sqlite:///{tmp_path}/file/queue.db?timeout_s=1"

    @pytest.fixture
    def trim(self, tmp_path: Path) -> Trim:
        """As a commit of all groups deletes what is old."""

        def trim(queue: Queue, position: Position, begin: int) -> None:
            with closing(sqlite3.connect(f"{tmp_path}/queue.db", isolation_level=None)) as db:
                query = "SELECT id FROM partitions WHERE topic = ? AND partition = ?"
                (place,) = db.execute(query, position).fetchone()
                db.execute("DELETE FROM messages WHERE place = ? AND offset < ?", (place, begin))
                db.execute("UPDATE partitions SET first = ? WHERE id = ?", (begin, place))

        return trim

    @pytest.fixture
    def plant(self, tmp_path: Path) -> Plant:
        """Text where there is a text, though it be none, and bytes that are text: SQLite takes any of them."""

        def plant(queue: Queue, key: bytes | None, value: bytes | None) -> None:
            with closing(sqlite3.connect(f"{tmp_path}/queue.db", isolation_level=None)) as db:
                query = "SELECT id, next FROM partitions WHERE topic = 't' AND partition = 0"
                place, offset = db.execute(query).fetchone()
                columns = "CAST(? AS TEXT), CAST(? AS TEXT)" if key and value else "?, ?"
                row = (place, offset, key or b"", value or "")
                db.execute(f"INSERT INTO messages VALUES (?, ?, {columns}, 9e12)", row)
                db.execute("UPDATE partitions SET next = next + 1 WHERE id = ?", (place,))

        return plant

    def test_a_clock_that_is_ahead_deletes_nothing(self, queue: Queue, url: str) -> None:
        """What was applied a moment ago may be needed for a restore."""
        queue.publish(messages(100))
        with another_process(poll_and_commit, url, 30 * 86_400) as (_, pipe):
            assert pipe.recv() == 100
            pipe.send("commit")
            assert pipe.recv() == "committed"
        assert queue.lag(["t"], "g") == 0
        assert len(list(queue.browse("t"))) == 100

    def test_a_message_is_delivered_soon_and_waiting_for_it_costs_next_to_nothing(self, url: str) -> None:
        queue = opened(url)
        queue.create(["t"])
        consumer = queue.consumer(["t"], "g")
        consumer.poll(1, 0)
        latencies_s = []
        for _ in range(21):
            sent: list[float] = []
            timer = threading.Timer(0.05, lambda sent=sent: (sent.append(time.monotonic()), queue.publish(messages(1))))
            timer.start()
            poll(consumer, 1)
            latencies_s.append(time.monotonic() - sent[0])
            timer.join()
        cpu_s = time.process_time()
        assert consumer.poll(1, 1.0) == []
        assert time.process_time() - cpu_s < 0.15
        assert sorted(latencies_s)[10] < 0.05
        queue.close()
