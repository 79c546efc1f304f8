"""The queues: the contract on each backend, and what is particular to one of them."""

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaConfigurationError

from backends.queue import kafka_consumer
from backends.queue.kafka_client import Cluster, verified
from backends.queue.memory import MemoryQueue
from backends.queue.sqlite import SqliteQueue
from backends.queue.sqlite_consumer import PRUNE_MAX
from backends.testing.queue import QueueContract
from backends.testing.queue_driving import (
    drain,
    ends,
    messages,
    opened,
    places_once_even,
    poll,
    shares_of,
    values,
)
from backends.testing.queue_failures import GONE_MAX_S, WHEN_GONE
from backends.testing.queue_offsets import Trim
from backends.testing.queue_planted import Plant, QueuePlanted
from backends.testing.queue_processes import QueueAcrossProcesses, another_process, consume, poll_and_commit
from backends.testing.timing import TRIES, unavailable_within
from coupon.domain.errors import BackendUnavailable, ConfigurationError
from coupon.ports.queue import Consumer, Message, Position, Queue
from coupon.ports.url import Url
from tests.services import Services


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("memory://?partitions=0", "partitions"),
        ("sqlite:///q.db?partition=8", "partition"),
        ("sqlite:///q.db?lease_s=soon", "lease_s"),
        ("kafka://localhost:port", "port"),
        ("kafka://localhost:9092?acks=1", "acks"),
    ],
)
def test_an_impossible_option_is_named_at_start(url: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        opened(url)


class TestMemoryQueue(QueueContract):
    @pytest.fixture
    def url(self) -> str:
        return "memory://?partitions=4"

    @pytest.fixture
    def gone(self) -> Queue:
        """There is no server that could be away: the same as after ``close``."""
        queue = MemoryQueue()
        queue.close()
        return queue

    @pytest.fixture
    def trim(self) -> Trim:
        return lambda queue, position, begin: cast(MemoryQueue, queue).trim(position, begin)

    def test_who_does_not_poll_for_a_lease_loses_its_partitions(self, clock: Clock) -> None:
        queue = MemoryQueue(lease_s=10, timer=clock)
        queue.create(["t"])
        queue.publish(messages(20))
        abandoned, heir = queue.consumer(["t"], "g"), queue.consumer(["t"], "g")
        in_flight = abandoned.poll(100, 0)
        clock.now += 5
        assert heir.poll(100, 0) == []
        clock.now += 5.1
        assert len(heir.poll(100, 0)) == len(in_flight) == 20
        with pytest.raises(BackendUnavailable):
            abandoned.commit(ends(in_flight))
        assert queue.lag(["t"], "g") == 20

    def test_a_poll_that_need_not_wait_asks_no_clock_but_the_queues(
        self, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("backends.queue.memory.time", None)
        queue = MemoryQueue(timer=clock)
        queue.create(["t"])
        queue.publish(messages(10))
        assert len(queue.consumer(["t"], "g").poll(100, 0)) == 10
        assert queue.consumer(["t"], "g").poll(100, 0) == []


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

    @pytest.fixture
    def ageing(self, tmp_path: Path, clock: Clock) -> Iterator[SqliteQueue]:
        """One partition, messages kept for 100 s once they are committed, and a timer that is moved by hand."""
        queue = SqliteQueue(f"{tmp_path}/queue.db", partitions=1, retention_s=100, lease_s=3_000, timer=clock)
        queue.create(["t", "watched", "dead-letters"])
        yield queue
        queue.close()

    @pytest.fixture
    def passing(self, ageing: SqliteQueue, clock: Clock) -> Callable[[float], None]:
        """Time goes by, while a member of some group is there."""
        watcher = ageing.consumer(["watched"], "watching")
        watcher.poll(1, 0)

        def passing(seconds: float) -> None:
            clock.now += seconds
            watcher.poll(1, 0)

        return passing

    def test_a_member_that_is_abandoned_loses_its_partitions(self, ageing: SqliteQueue, clock: Clock) -> None:
        """Counted from when the heir saw it first: 3,000 s by its own timer."""
        ageing.publish(messages(20))
        abandoned, heir = ageing.consumer(["t"], "g"), ageing.consumer(["t"], "g")
        in_flight = abandoned.poll(100, 0)
        clock.now += 100_000
        assert heir.poll(100, 0) == []
        clock.now += 2_999
        assert heir.poll(100, 0) == []
        clock.now += 1.1
        assert len(heir.poll(100, 0)) == len(in_flight) == 20
        with pytest.raises(BackendUnavailable):
            abandoned.commit(ends(in_flight))
        assert ageing.lag(["t"], "g") == 20

    def test_a_member_that_is_there_keeps_its_partitions_however_seldom_others_look(
        self, ageing: SqliteQueue, clock: Clock
    ) -> None:
        ageing.publish(messages(20))
        owner, other = ageing.consumer(["t"], "g"), ageing.consumer(["watched"], "g")
        in_flight = owner.poll(100, 0)
        for _ in range(5):
            assert other.poll(100, 0) == []
            clock.now += 10_000
            assert owner.poll(100, 0) == []
        owner.commit(ends(in_flight))

    def test_a_lease_of_an_older_version_holds_nobody_up(self, ageing: SqliteQueue, tmp_path: Path) -> None:
        """511aa48 wrote until when a member lives, by a clock that may have been ahead."""
        ageing.publish(messages(20))
        with closing(sqlite3.connect(f"{tmp_path}/queue.db", isolation_level=None)) as db:
            db.execute(
                "CREATE TABLE members (party TEXT NOT NULL, topic TEXT NOT NULL, member TEXT NOT NULL,"
                " until REAL NOT NULL, PRIMARY KEY (party, topic, member)) WITHOUT ROWID"
            )
            db.execute("INSERT INTO members VALUES ('g', 't', 'of 511aa48', 9e12)")
            db.execute("INSERT INTO cursors SELECT 'g', id, 7, 'of 511aa48' FROM partitions WHERE topic = 't'")
        assert [d.offset for d in ageing.consumer(["t"], "g").poll(100, 0)] == list(range(7, 20))

    def test_a_clock_that_is_ahead_deletes_nothing(self, queue: Queue, url: str) -> None:
        """What was applied a moment ago may be needed for a restore."""
        queue.publish(messages(100))
        with another_process(poll_and_commit, url, 30 * 86_400) as (_, pipe):
            assert pipe.recv() == 100
            pipe.send("commit")
            assert pipe.recv() == "committed"
        assert queue.lag(["t"], "g") == 0
        assert len(list(queue.browse("t"))) == 100

    def test_what_an_older_version_published_grows_old_from_then_on(self, ageing: SqliteQueue, tmp_path: Path) -> None:
        """511aa48 dated its messages by the clock, and had no time of the file's own."""
        ageing.publish(messages(10))
        with closing(sqlite3.connect(f"{tmp_path}/queue.db", isolation_level=None)) as db:
            db.execute("DROP TABLE time")
            db.execute("UPDATE messages SET at = ? - CASE WHEN offset < 4 THEN 200 ELSE 10 END", (time.time(),))
        queue = SqliteQueue(f"{tmp_path}/queue.db", partitions=1, retention_s=100)
        drain([queue.consumer(["t"], "g")], 10)
        assert [d.offset for d in queue.browse("t")] == [4, 5, 6, 7, 8, 9]
        queue.close()

    def test_old_messages_that_all_groups_have_committed_are_deleted(
        self, ageing: SqliteQueue, passing: Callable[[float], None]
    ) -> None:
        one, two = ageing.consumer(["t"], "one"), ageing.consumer(["t"], "two")
        ageing.publish(messages(10))
        drain([one], 10)
        poll(two, 10)
        passing(101)
        ageing.publish([Message("t", "k", b"young")])
        drain([one], 1)
        assert len(list(ageing.browse("t"))) == 11, "the group two has committed nothing"
        two.rewind()
        drain([two], 11)
        assert [(d.offset, d.value) for d in ageing.browse("t")] == [(10, b"young")]
        assert ageing.lag(["t"], "one") == ageing.lag(["t"], "two") == 0

    def test_offsets_go_on_and_new_groups_begin_behind_what_was_deleted(
        self, ageing: SqliteQueue, passing: Callable[[float], None]
    ) -> None:
        consumer = ageing.consumer(["t"], "g")
        for value in (b"old", b"new"):
            ageing.publish([Message("t", "k", value)] * 5)
            passing(101)
            drain([consumer], 5)
        assert list(ageing.browse("t")) == []
        ageing.publish([Message("t", "k", b"last")])
        assert [d.offset for d in ageing.browse("t")] == [10]
        assert ageing.lag(["t"], "late") == 1
        assert values(poll(ageing.consumer(["t"], "late"), 1)) == [b"last"]

    def test_what_no_group_reads_is_kept_indefinitely(
        self, ageing: SqliteQueue, passing: Callable[[float], None]
    ) -> None:
        ageing.publish([Message("dead-letters", "k", b"v"), Message("t", "k", b"v")])
        passing(1_000_000)
        drain([ageing.consumer(["t"], "g")], 1)
        assert len(list(ageing.browse("dead-letters"))) == 1

    def test_a_commit_deletes_a_bounded_number(self, ageing: SqliteQueue, passing: Callable[[float], None]) -> None:
        count = PRUNE_MAX * 2 + 1
        ageing.publish(messages(count))
        passing(101)
        consumer = ageing.consumer(["t"], "g")
        position = ends(poll(consumer, count))
        kept = []
        for _ in range(4):
            consumer.commit(position)
            kept.append(len(list(ageing.browse("t"))))
        assert kept == [PRUNE_MAX + 1, 1, 0, 0]

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


@pytest.mark.services
class TestKafkaQueue(QueueContract, QueueAcrossProcesses, QueuePlanted):
    @pytest.fixture
    def prefix(self) -> str:
        return f"test-{uuid4().hex[:8]}."

    @pytest.fixture
    def url(self, services: Services, prefix: str) -> Iterator[str]:
        yield f"kafka://{services.kafka}?prefix={prefix}&partitions=4"
        admin = KafkaAdminClient(bootstrap_servers=services.kafka)
        admin.delete_topics([name for name in admin.list_topics() if name.startswith(prefix)])
        admin.close()

    @pytest.fixture
    def gone_url(self) -> str:
        return "kafka://127.0.0.1:1?timeout_s=0.5"

    @pytest.fixture
    def trim(self, services: Services, prefix: str) -> Trim:
        def trim(queue: Queue, position: Position, begin: int) -> None:
            admin = KafkaAdminClient(bootstrap_servers=services.kafka)
            admin.delete_records({TopicPartition(prefix + position.topic, position.partition): begin})
            admin.close()

        return trim

    @pytest.fixture
    def plant(self, services: Services, prefix: str) -> Iterator[Plant]:
        producer = KafkaProducer(bootstrap_servers=services.kafka, max_request_size=2_000_000)

        def plant(queue: Queue, key: bytes | None, value: bytes | None) -> None:
            producer.send(f"{prefix}t", key=key, value=value, partition=0).get(30)

        yield plant
        producer.close()

    def test_topics_and_groups_have_the_prefix_in_kafka_only(
        self, queue: Queue, services: Services, prefix: str
    ) -> None:
        queue.publish([Message("t", "k", b"v")])
        (delivery,) = drain([queue.consumer(["t"], "g")], 1)[0]
        assert delivery.topic == "t"
        admin = KafkaAdminClient(bootstrap_servers=services.kafka)
        assert {prefix + "t", prefix + "other"} <= set(admin.list_topics())
        assert admin.list_group_offsets([f"{prefix}g"])[f"{prefix}g"]
        admin.close()

    @pytest.fixture
    def of_an_older_version(self, services: Services, prefix: str) -> Iterator[ConfigResource]:
        """A topic in which our times decide, and whose retention an operator has set."""
        admin = KafkaAdminClient(bootstrap_servers=services.kafka)
        configs = {"message.timestamp.type": "CreateTime", "retention.ms": "2592000000"}
        admin.create_topics({f"{prefix}older": {"num_partitions": 4, "replication_factor": 1, "configs": configs}})
        admin.wait_for_topics([f"{prefix}older"])
        yield ConfigResource("topic", f"{prefix}older", configs)
        admin.close()

    def test_a_topic_goes_by_the_brokers_clock_also_one_that_an_older_version_made(
        self, queue: Queue, services: Services, prefix: str, of_an_older_version: ConfigResource
    ) -> None:
        queue.create(["older"])
        admin = KafkaAdminClient(bootstrap_servers=services.kafka)
        topics = [of_an_older_version, ConfigResource("topic", f"{prefix}t")]
        told = admin.describe_configs(topics)["topic"]
        admin.close()
        assert {name: told[name]["message.timestamp.type"]["value"] for name in told} == {
            f"{prefix}older": "LogAppendTime",
            f"{prefix}t": "LogAppendTime",
        }
        assert told[f"{prefix}older"]["retention.ms"]["value"] == "2592000000"

    @pytest.mark.usefixtures("of_an_older_version")
    @pytest.mark.parametrize("wrong_h", [-30_000, -2, 2, 30_000])
    def test_a_clock_that_is_wrong_stops_no_publish(
        self, queue: Queue, monkeypatch: pytest.MonkeyPatch, wrong_h: int
    ) -> None:
        _set_clock(monkeypatch, wrong_h * 3_600)
        queue.publish([Message("older", "k", b"v"), Message("t", "k", b"v")])
        assert values(queue.browse("older")) == values(queue.browse("t")) == [b"v"]

    def test_the_driver_commits_nothing_by_itself(self, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(KafkaConsumer.DEFAULT_CONFIG, "auto_commit_interval_ms", 100)  # every 5 s, unless told
        queue.publish([Message("t", "k", b"v")])
        consumer = queue.consumer(["t"], "g")
        poll(consumer, 1)
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            consumer.poll(1, 0.1)
        consumer.close()
        assert queue.lag(["t"], "g") == 1

    def test_workers_of_an_older_version_share_with_ours_until_they_leave(
        self, queue: Queue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        older, *ours = group = [queue.consumer(["t"], "g") for _ in range(3)]
        with monkeypatch.context() as patch:
            patch.setattr(kafka_consumer, "ASSIGNORS", [CooperativeStickyAssignor])
            queue.publish(messages(50))
            drain([older], 50)
        _, *before = places_once_even(queue, group, ["t"])
        older.close()
        after = places_once_even(queue, ours, ["t"])
        assert shares_of("t", after) == [2, 2]
        assert all(had <= has for had, has in zip(before, after, strict=True))

    @pytest.mark.parametrize("slept_s", [1.0, 8.0])
    def test_a_topic_that_was_recreated_is_delivered_from_its_beginning(
        self, queue: Queue, url: str, services: Services, prefix: str, slept_s: float
    ) -> None:
        """Also to who slept meanwhile, and what is before the offset where it was in the old one."""
        queue.publish([Message("t", "k", b"old")] * 5)
        with another_process(consume, url, 5, 20) as (process, pipe):
            assert pipe.recv() == [b"old"] * 5
            os.kill(process.pid, signal.SIGSTOP)
            admin = KafkaAdminClient(bootstrap_servers=services.kafka)
            admin.delete_topics([f"{prefix}t"])
            admin.close()
            _until_available(lambda: queue.create(["t"]))
            sent = [b"%d" % number for number in range(20)]
            _until_available(lambda: queue.publish([Message("t", "k", value) for value in sent]))
            time.sleep(slept_s)
            os.kill(process.pid, signal.SIGCONT)
            assert pipe.poll(60)
            assert pipe.recv() == sent

    def test_what_the_driver_changes_by_itself_stops_the_start(self, services: Services) -> None:
        producer = KafkaProducer(bootstrap_servers=services.kafka, acks=1)
        with pytest.raises(KafkaConfigurationError, match="enable_idempotence"):
            verified(producer, enable_idempotence=True)
        producer.close()

    def test_a_server_that_is_silent_costs_no_more_than_the_timeout(self, queue: Queue, services: Services) -> None:
        queue.publish([Message("t", "k", b"before")])
        consumer, *others = [queue.consumer(["t"], f"g{n}") for n in range(1 + TRIES)]
        in_flight = poll(consumer, 1)
        for another in others:
            poll(another, 1)
        with services.silent("kafka"):
            with ThreadPoolExecutor(TRIES) as pool:
                assert min(pool.map(_closed_after_s, others)) < 2
            asked = [_Unavailable(lambda: queue.publish([Message("t", "k", b"lost?")])) for _ in range(16)]
            asked += [_Unavailable(lambda ask=ask: ask(queue)) for ask in WHEN_GONE.values()]
            asked.append(_Unavailable(lambda: consumer.commit(ends(in_flight))))
            assert max(asking.after_s() for asking in asked) < GONE_MAX_S
            _Unavailable(lambda: _poll_on(consumer)).after_s()
            unavailable_within(2, lambda: queue.publish([Message("t", "k", b"lost?")]))
        _until_available(lambda: queue.publish([Message("t", "k", b"after")]))
        consumer.rewind()
        found: list[bytes] = []
        while b"after" not in found:
            found += values(_until_available(lambda: consumer.poll(10, 1)))

    def test_a_client_whose_closing_fails_leaves_no_socket(
        self, services: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cluster = Cluster.from_url(Url(f"kafka://{services.kafka}"))
        admin, connections = cluster.connect(KafkaAdminClient, cluster.timeout_s)
        admin.list_topics()
        sockets = list(connections._net.sockets)
        threads = []

        def close(**_: Any) -> None:
            threads.append(connections._net._io_thread)
            raise AssertionError

        monkeypatch.setattr(connections._manager, "close", close)
        with pytest.raises(AssertionError):
            admin.close()
        assert threads == [None]  # which would be at work on the same connections
        assert [sock.fileno() for sock in sockets] == [-1] * len(sockets) != []

    def test_who_asks_for_offsets_and_reads_outlives_a_server_that_is_killed(
        self, queue: Queue, services: Services
    ) -> None:
        queue.publish(messages(100))
        drain([queue.consumer(["t"], "g")], 100)
        places = [Position("t", number) for number in range(4)]
        ask: list[Callable[[], Any]] = [
            lambda: queue.ends(["t"]),
            lambda: queue.committed(places, "g"),
            lambda: sum(len(queue.read(place, 0, 500)) for place in places),
        ]
        before = [each() for each in ask]
        with services.away("kafka"):
            for each in ask:
                with pytest.raises(BackendUnavailable):
                    each()
        assert [_until_available(each) for each in ask] == before

    def test_publishers_and_consumers_outlive_a_server_that_is_killed(self, queue: Queue, services: Services) -> None:
        consumer = queue.consumer(["t"], "g")
        publishing = _Publishing(queue)
        found: list[Message] = []
        _consume(consumer, found, lambda: len(publishing.acknowledged) > 300)
        with services.away("kafka"):
            with pytest.raises(BackendUnavailable):
                _poll_on(consumer)
            _until(lambda: publishing.failures > 0)
        recovered = len(publishing.acknowledged) + 300
        _consume(consumer, found, lambda: len(publishing.acknowledged) > recovered)
        acknowledged = publishing.stop()
        _consume(consumer, found, lambda: acknowledged <= {message.value for message in found})
        for key in {message.key for message in found}:
            first_seen = dict.fromkeys(int(message.value) for message in found if message.key == key)
            assert list(first_seen) == sorted(first_seen)


def _closed_after_s(consumer: Consumer) -> float:
    began = time.monotonic()
    consumer.close()
    return time.monotonic() - began


class _Unavailable(threading.Thread):
    """Does what must raise BackendUnavailable; how long did that take?"""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work, self._took_s = work, -1.0
        self.start()

    def run(self) -> None:
        began = time.monotonic()
        try:
            self._work()
        except BackendUnavailable:
            self._took_s = time.monotonic() - began

    def after_s(self) -> float:
        self.join()
        assert self._took_s >= 0, "it was not unavailable"
        return self._took_s


class _Publishing(threading.Thread):
    """Publishes numbers of seven keys, and goes on after a failure with the next one."""

    def __init__(self, queue: Queue) -> None:
        super().__init__(daemon=True)
        self._queue, self._stopped = queue, threading.Event()
        self.acknowledged: set[bytes] = set()
        self.failures = 0
        self.start()

    def run(self) -> None:
        number = 0
        while not self._stopped.is_set():
            message = Message("t", f"key-{number % 7}", b"%d" % number)
            number += 1
            try:
                self._queue.publish([message])
                self.acknowledged.add(message.value)
                time.sleep(0.002)  # or one who reads and commits falls behind on a busy machine
            except BackendUnavailable:
                self.failures += 1

    def stop(self) -> set[bytes]:
        self._stopped.set()
        self.join()
        return self.acknowledged


def _set_clock(patch: pytest.MonkeyPatch, ahead_s: float) -> None:
    """That of this process, of which no lease and no age may make anything."""
    right_s = time.clock_gettime
    patch.setattr(time, "time", lambda: right_s(time.CLOCK_REALTIME) + ahead_s)
    patch.setattr(time, "time_ns", lambda: int((right_s(time.CLOCK_REALTIME) + ahead_s) * 1e9))


def _consume(consumer: Consumer, found: list[Any], enough: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not enough():
        assert time.monotonic() < deadline
        try:
            polled = consumer.poll(100, 0.2)
            consumer.commit(ends(polled))
            found += polled
        except BackendUnavailable:
            consumer.rewind()


def _poll_on(consumer: Consumer) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        consumer.poll(10, 0.5)


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _until_available(work: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while True:
        try:
            return work()
        except BackendUnavailable:
            assert time.monotonic() < deadline
