"""Reads partitions without a group, a few megabytes at a time."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka import IsolationLevel, OffsetSpec, TopicPartition, errors
from kafka.protocol.consumer import FetchRequest
from kafka.record.memory_records import MemoryRecords

from backends.queue.kafka_client import Cluster
from backends.queue.kafka_leaders import Leaders
from backends.queue.kafka_link import Link
from backends.queue.kafka_offsets import list_offsets, listed
from backends.queue.partitions import POLL_BYTES_MAX
from coupon.domain.errors import BackendUnavailable
from coupon.ports.queue import Delivery, Position

VERSION_MAX = 12
"""The last version of the request in which a topic is identified by its name."""
BYTES_A_MESSAGE = 4_096
"""The bytes that are fetched for each requested message. When that is too little, the rest is fetched again."""


class Reader:
    """Shared by the threads of a process, which take turns. It has connections of its own: its responses are large, and
    requests for offsets must not wait behind them."""

    def __init__(self, cluster: Cluster, leaders: Leaders) -> None:
        self._leaders = leaders
        self._link = Link(cluster)
        self._turn = threading.Lock()
        self._closed = False

    def read(self, position: Position, offset: int, limit: int) -> list[Delivery]:
        def read(deadline: float) -> list[Delivery]:
            with self._my_turn(deadline):
                return self._read(self._leaders.partition(position), offset, limit, deadline)

        return self._leaders.retrying([position.topic], read)

    def close(self) -> None:
        """A thread that is reading finishes, and disconnects."""
        self._closed = True
        if self._turn.acquire(timeout=1.0):
            self._link.disconnect()
            self._turn.release()

    @contextmanager
    def _my_turn(self, deadline: float) -> Iterator[None]:
        if not self._turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise BackendUnavailable("Kafka is unavailable: nobody could read in time")
        try:
            if self._closed:
                raise BackendUnavailable("the queue was closed")
            yield
        finally:
            if self._closed:
                self._link.disconnect()
            self._turn.release()

    def _read(self, partition: TopicPartition, offset: int, limit: int, deadline: float) -> list[Delivery]:
        found: list[Delivery] = []
        size, end = 0, offset + 1
        while len(found) < limit and size < POLL_BYTES_MAX and offset < end:
            bytes_max = min(POLL_BYTES_MAX - size, (limit - len(found)) * BYTES_A_MESSAGE)
            answer = self._fetch(partition, offset, bytes_max, deadline)
            if answer.error_code == errors.OffsetOutOfRangeError.errno:
                begin = self._begin(partition, deadline)
                if begin <= offset:
                    break
                offset, end = begin, begin + 1
                continue
            if answer.error_code:
                raise errors.for_code(answer.error_code)(str(partition))
            end = answer.high_watermark
            records, next_offset = _unpacked(answer.records or b"", offset)
            if next_offset == offset:
                break
            found += [delivery(self._leaders.position(partition), record) for record in records[: limit - len(found)]]
            size += len(answer.records)
            offset = next_offset
        return found

    def _begin(self, partition: TopicPartition, deadline: float) -> int:
        (response,) = self._link.ask(
            [(self._leaders.of(partition), list_offsets(OffsetSpec.EARLIEST, [partition]))], deadline
        )
        begin = listed(OffsetSpec.EARLIEST, response)[OffsetSpec.EARLIEST, partition]
        if isinstance(begin, Exception):
            raise begin
        return begin

    def _fetch(self, partition: TopicPartition, offset: int, bytes_max: int, deadline: float) -> Any:
        """The partition in the leader's response."""
        part = FetchRequest.FetchTopic.FetchPartition(
            partition=partition.partition, fetch_offset=offset, partition_max_bytes=bytes_max
        )
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=bytes_max,
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            topics=[FetchRequest.FetchTopic(topic=partition.topic, partitions=[part])],
            max_version=VERSION_MAX,
        )
        (response,) = self._link.ask([(self._leaders.of(partition), request)], deadline)
        if response.error_code:
            raise errors.for_code(response.error_code)(str(partition))
        ((_, (answer,)),) = [(topic.topic, topic.partitions) for topic in response.responses]
        return answer


def _unpacked(data: bytes, offset: int) -> tuple[list[Any], int]:
    """The records from that offset on, and the offset behind the last one."""
    records, end = [], offset
    batches = MemoryRecords(data)
    while (batch := batches.next_batch()) is not None:
        if not batch.validate_crc():
            raise errors.CorruptRecordError(f"at {batch.base_offset}")
        if not batch.is_control_batch:
            records += [record for record in batch if record.offset >= offset]
        end = max(end, batch.next_offset)
    return records, end


def delivery(position: Position, record: Any) -> Delivery:
    """The record as a delivery. Key and value that others wrote are decoded as well as possible."""
    key = (record.key or b"").decode(errors="replace")
    return Delivery(position.topic, position.partition, record.offset, key, record.value or b"")
