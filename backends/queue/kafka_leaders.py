"""Which broker leads each partition of our topics, for all threads of a process."""

import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from kafka import TopicPartition, errors

from backends.queue.kafka_client import REFUSALS, Cluster, error_text
from backends.queue.partitions import partition_of
from coupon.domain.errors import BackendError, BackendRejected, BackendUnavailable
from coupon.ports.queue import Position

NO_LEADER = -1
"""The leader of a partition while its cluster chooses one."""
RETRY_PAUSE_S = 0.05
TRIES = 2
"""A connection may have ended since its last use; the second try has a new one."""
MOVING = (
    errors.LeaderNotAvailableError,
    errors.NotLeaderForPartitionError,
    errors.FencedLeaderEpochError,
    errors.UnknownLeaderEpochError,
    errors.UnknownTopicOrPartitionError,
    errors.OffsetNotAvailableError,
    errors.CoordinatorNotAvailableError,
    errors.CoordinatorLoadInProgressError,
    errors.NotCoordinatorError,
)
"""Errors that mean that another broker leads, or will soon. It is looked up again until the deadline."""
Answer = TypeVar("Answer")


class Leaders:
    """Looks leaders up at the first use of a topic, and again when a request shows that they have changed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._looking = threading.Lock()
        self._looked_at = 0.0
        self._leaders: dict[str, list[int]] = {}

    def retrying(self, topics: Collection[str], request: Callable[[float], Answer]) -> Answer:
        """The result of a request that changes nothing, so that it may be repeated while leaders change. ``request`` is
        called with its deadline. Raises the contract's errors."""
        deadline = time.monotonic() + self._cluster.timeout_s
        self.ensure_known(topics, deadline)
        failed = 0
        while True:
            try:
                return request(deadline)
            except BackendError:
                raise
            except Exception as error:  # the driver may raise any error
                failed += not isinstance(error, MOVING)
                _raise_for_good(error, failed, deadline)
            time.sleep(RETRY_PAUSE_S)
            self.refresh(topics, deadline)

    def ensure_known(self, topics: Iterable[str], deadline: float) -> None:
        """Look up the topics that were not looked up yet. Raises BackendRejected for a topic that does not exist."""
        unknown = set(topics) - self._leaders.keys()
        if unknown:
            self.refresh(unknown, deadline)

    def refresh(self, topics: Iterable[str], deadline: float) -> None:
        """Look up the present leaders of the topics; one thread does it for all that wait. Raises BackendRejected for a
        topic that does not exist."""
        asked = time.monotonic()
        if not self._looking.acquire(timeout=max(0.0, deadline - asked)):
            raise BackendUnavailable("Kafka is unavailable: nobody could look at the topics in time")
        try:
            outdated = [topic for topic in topics if self._looked_at < asked or topic not in self._leaders]
            if outdated:
                left_s = max(0.1, deadline - time.monotonic())
                leaders = self._cluster.ask(lambda admin: self._cluster.leaders_of(admin, outdated), left_s)
                self._leaders = self._leaders | leaders
                self._looked_at = time.monotonic()
        finally:
            self._looking.release()

    def partitions(self, topic: str) -> list[TopicPartition]:
        """All partitions of a topic that was looked up."""
        return [TopicPartition(self._cluster.prefix + topic, number) for number in range(len(self._leaders[topic]))]

    def partition_for(self, topic: str, key: str) -> TopicPartition:
        return self.partitions(topic)[partition_of(key, len(self._leaders[topic]))]

    def partition(self, position: Position) -> TopicPartition:
        """The driver's form of the position. Raises BackendRejected for a partition that does not exist."""
        if not 0 <= position.partition < len(self._leaders[position.topic]):
            raise BackendRejected(f"there is no partition {position.topic}/{position.partition}")
        return TopicPartition(self._cluster.prefix + position.topic, position.partition)

    def position(self, partition: TopicPartition) -> Position:
        return Position(partition.topic.removeprefix(self._cluster.prefix), partition.partition)

    def of(self, partition: TopicPartition) -> int:
        """The broker that leads it; NO_LEADER also for a partition that does not exist any more."""
        leaders = self._leaders.get(self.position(partition).topic, [])
        return leaders[partition.partition] if partition.partition < len(leaders) else NO_LEADER


def _raise_for_good(failure: Exception, failed: int, deadline: float) -> None:
    """Raise the failure as the contract's error, unless a retry may help and there is time for it."""
    if isinstance(failure, REFUSALS) and not isinstance(failure, MOVING):
        raise BackendRejected(f"Kafka refused: {error_text(failure)}") from failure
    if failed >= TRIES or time.monotonic() + RETRY_PAUSE_S > deadline:
        raise BackendUnavailable(f"Kafka is unavailable: {error_text(failure)}") from failure
