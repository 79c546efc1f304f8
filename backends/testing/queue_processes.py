"""What every queue promises that several processes use at once."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from backends.testing.forking import in_a_fork
from backends.testing.processes import SPAWN, in_processes
from backends.testing.queue_driving import PATIENCE_S, by_key, drain, ends, messages, opened, poll, values
from coupon.domain.errors import BackendUnavailable
from coupon.ports.queue import MESSAGE_MAX, Message, Queue

MADE = [f"made-{number}" for number in range(5)]
"""Topics that several processes make at once."""


class QueueAcrossProcesses:
    """To be mixed in after ``QueueContract``, whose ``queue`` it takes. ``lease_s``: how long a member may be silent
    before others get its partitions."""

    lease_s = 6.0

    def test_of_processes_that_make_a_topic_at_once_none_fails(self, queue: Queue, url: str) -> None:
        in_processes(create_and_publish, [(url, b"%d" % me) for me in range(4)])
        assert len(queue.ends(MADE)) == len(MADE) * len(queue.ends(["t"]))
        for topic in MADE:
            assert sorted(values(queue.browse(topic))) == [b"%d" % me for me in range(4)]

    def test_what_a_process_published_before_it_was_killed_is_there(self, queue: Queue, url: str) -> None:
        with another_process(publish_and_wait, url, "key", 100) as (process, pipe):
            assert pipe.recv() == 100
            os.kill(process.pid, signal.SIGKILL)
        assert values(queue.browse("t")) == [b"%d" % n for n in range(100)]

    def test_processes_publish_at_once_and_one_consumes_each_key_in_order(self, queue: Queue, url: str) -> None:
        with another_process(publish_and_wait, url, "a", 200), another_process(publish_and_wait, url, "b", 200):
            found = by_key(drain([queue.consumer(["t"], "g")], 400)[0])
        assert found == {key: [b"%d" % n for n in range(200)] for key in "ab"}

    def test_a_killed_member_hands_its_partitions_over(self, queue: Queue, url: str) -> None:
        queue.publish(messages(100))
        with another_process(poll_and_commit, url) as (process, pipe):
            assert pipe.recv() == 100
            os.kill(process.pid, signal.SIGKILL)
            killed = time.monotonic()
            assert by_key(drain([queue.consumer(["t"], "g")], 100)[0]) == by_key(messages(100))
        assert time.monotonic() - killed < self.lease_s + 6

    def test_a_member_that_was_killed_while_its_clock_was_ahead_hands_its_partitions_over(
        self, queue: Queue, url: str
    ) -> None:
        queue.publish(messages(100))
        with another_process(poll_and_commit, url, 7_200) as (process, pipe):
            assert pipe.recv() == 100
            os.kill(process.pid, signal.SIGKILL)
        assert by_key(drain([queue.consumer(["t"], "g")], 100)[0]) == by_key(messages(100))

    def test_a_member_whose_clock_is_ahead_takes_no_partition_from_the_living(self, queue: Queue, url: str) -> None:
        queue.publish(messages(100))
        consumer = queue.consumer(["t"], "g")
        in_flight = poll(consumer, 100)
        with another_process(poll_and_commit, url, 7_200) as (_, pipe):
            assert not pipe.poll(2), "it was given what another has in flight"
            consumer.commit(ends(in_flight))

    def test_who_slept_while_others_took_over_cannot_commit(self, queue: Queue, url: str) -> None:
        queue.publish(messages(100))
        with another_process(poll_and_commit, url) as (process, pipe):
            assert pipe.recv() == 100
            os.kill(process.pid, signal.SIGSTOP)
            consumer = queue.consumer(["t"], "g")
            assert by_key(poll(consumer, 100)) == by_key(messages(100))
            os.kill(process.pid, signal.SIGCONT)
            pipe.send("commit")
            assert pipe.recv() == "refused"
            assert queue.lag(["t"], "g") == 100
            consumer.rewind()
            assert by_key(poll(consumer, 100)) == by_key(messages(100))

    def test_a_queue_that_was_used_before_a_fork_works_on_both_sides(self, queue: Queue) -> None:
        queue.publish([Message("t", "k", b"parent")])
        in_a_fork(lambda: queue.publish([Message("t", "k", b"child")]))
        queue.publish([Message("t", "k", b"parent")])
        assert values(queue.browse("t")) == [b"parent", b"child", b"parent"]

    def test_a_backlog_of_any_size_is_read_in_flat_memory(self, queue: Queue, url: str) -> None:
        for n in range(15):
            queue.publish([Message("t", f"key-{n}-{i}", os.urandom(MESSAGE_MAX)) for i in range(10)])
        with another_process(read_all, url, 150) as (_, pipe):
            assert pipe.recv() < 130, "MB"

    def test_a_long_batch_costs_no_partitions(self, queue: Queue, url: str) -> None:
        queue.publish(messages(100))
        consumer = queue.consumer(["t"], "g")
        in_flight = poll(consumer, 100)
        with another_process(poll_and_commit, url) as (_, pipe):
            assert not pipe.poll(self.lease_s + 2), "its lease is over, though it lives"
            consumer.commit(ends(in_flight))


@contextmanager
def another_process(work: Callable[..., None], *args: Any) -> Iterator[tuple[Any, Any]]:
    """A process that does the work, given one end of a pipe; killed at the end."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=work, args=(theirs, *args), daemon=True)
    process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()


def create_and_publish(url: str, value: bytes, barrier: Any) -> None:
    with closing(opened(url)) as queue:
        with suppress(BackendUnavailable):
            queue.ping()
        for topic in MADE:
            barrier.wait()
            queue.create([topic])
            queue.publish([Message(topic, "k", value)])


def publish_and_wait(pipe: Any, url: str, key: str, count: int) -> None:
    queue = opened(url)
    for n in range(count):
        queue.publish([Message("t", key, b"%d" % n)])
    pipe.send(count)
    pipe.recv()


def set_clock(ahead_s: float) -> None:
    """Of this process, for all modules that are imported later: backends are, when they are opened."""
    time.time = lambda: time.clock_gettime(time.CLOCK_REALTIME) + ahead_s
    time.time_ns = lambda: int(time.time() * 1e9)


def read_all(pipe: Any, url: str, count: int) -> None:
    """Read all as a member and by browsing; the most memory that this process ever had, in MB."""
    queue = opened(url)
    consumer, polled = queue.consumer(["t"], "g"), 0
    while polled < count:
        polled += len(consumer.poll(500, PATIENCE_S))
    assert sum(1 for _ in queue.browse("t")) == count
    pipe.send(_peak_mb())


def _peak_mb() -> float:
    """Of this process alone: rusage counts what its parent had when it forked."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def poll_and_commit(pipe: Any, url: str, ahead_s: float = 0.0) -> None:
    """Poll 100 messages; commit them when told to. The clock is ahead by so much."""
    set_clock(ahead_s)
    consumer = opened(url).consumer(["t"], "g")
    deliveries = poll(consumer, 100)
    pipe.send(len(deliveries))
    pipe.recv()
    try:
        consumer.commit(ends(deliveries))
    except BackendUnavailable:
        pipe.send("refused")
    else:
        pipe.send("committed")


def consume(pipe: Any, url: str, *counts: int) -> None:
    """Poll and commit so many messages, tell of them, and then of the next; through failures."""
    consumer = opened(url).consumer(["t"], "g")
    for count in counts:
        found: list[bytes] = []
        while len(found) < count:
            try:
                polled = consumer.poll(500, 0.2)
                consumer.commit(ends(polled))
                found += values(polled)
            except BackendUnavailable:
                consumer.rewind()
        pipe.send(found)
