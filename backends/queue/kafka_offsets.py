"""The begin and the end of partitions, and the offsets that a group has committed.

A web process asks for them on cache misses. All of its threads that ask at the same time share one round trip.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from kafka import IsolationLevel, OffsetSpec, TopicPartition, errors
from kafka.protocol.consumer import ListOffsetsRequest, OffsetFetchRequest
from kafka.protocol.metadata import FindCoordinatorRequest

from backends.queue.kafka_client import Cluster
from backends.queue.kafka_leaders import NO_LEADER, Leaders
from backends.queue.kafka_link import Link
from coupon.domain.errors import BackendUnavailable
from coupon.ports.group_commit import GroupCommit
from coupon.ports.queue import Position

BEGIN, END = OffsetSpec.EARLIEST, OffsetSpec.LATEST
COORDINATOR_VERSION_MAX, FETCH_VERSION_MAX = 3, 7
"""The last versions of the requests with one group, and with topics that are identified by name."""

OffsetOf = tuple[int | str, TopicPartition]
"""BEGIN, END, or the name of a group; and the partition."""
NO_ANSWER = errors.KafkaError("an answer leaves out what was asked")


class Lookup:
    """The request of one caller, with its results: an offset or an error each."""

    __slots__ = ("answers", "requested")

    def __init__(self, requested: Iterable[OffsetOf]) -> None:
        self.requested = frozenset(requested)
        self.answers: Mapping[OffsetOf, int | Exception] = {}


class Offsets:
    """Shared by all threads of a process."""

    def __init__(self, cluster: Cluster, leaders: Leaders) -> None:
        self._cluster, self._leaders = cluster, leaders
        self._group = GroupCommit(self._serve)
        self._link = Link(cluster)
        self._coordinators: dict[str, int] = {}
        self._closed = False

    def ends(self, topics: Sequence[str], key: str | None) -> dict[Position, int]:
        def requested() -> list[OffsetOf]:
            if key is not None:
                return [(END, self._leaders.partition_for(topic, key)) for topic in topics]
            return [(END, partition) for topic in topics for partition in self._leaders.partitions(topic)]

        return self._positions(END, self._ask(topics, requested))

    def begins(self, topics: Sequence[str]) -> dict[Position, int]:
        def requested() -> list[OffsetOf]:
            return [(BEGIN, partition) for topic in topics for partition in self._leaders.partitions(topic)]

        return self._positions(BEGIN, self._ask(topics, requested))

    def committed(self, positions: Collection[Position], group: str) -> dict[Position, int]:
        """Each begin is requested, too: a retention may have deleted messages that the group has not committed."""
        group_id = self._cluster.prefix + group

        def requested() -> list[OffsetOf]:
            partitions = [self._leaders.partition(position) for position in positions]
            return [(what, partition) for what in (group_id, BEGIN) for partition in partitions]

        offsets = self._ask({position.topic for position in positions}, requested)
        begins, committed = self._positions(BEGIN, offsets), self._positions(group_id, offsets)
        return {position: max(begins[position], committed[position]) for position in positions}

    def close(self) -> None:
        """A thread that is asking finishes, and disconnects."""
        self._closed = True
        try:
            self._group.do(Lookup([]), time.monotonic() + 1.0)
        except TimeoutError:
            return

    def _positions(self, what: int | str, offsets: Mapping[OffsetOf, int]) -> dict[Position, int]:
        return {self._leaders.position(partition): offset for (of, partition), offset in offsets.items() if of == what}

    def _ask(self, topics: Collection[str], requested: Callable[[], list[OffsetOf]]) -> dict[OffsetOf, int]:
        def ask(deadline: float) -> dict[OffsetOf, int]:
            lookup = Lookup(requested())
            self._group.do(lookup, deadline)
            return {each: _offset_or_raise(lookup.answers.get(each, NO_ANSWER)) for each in lookup.requested}

        if self._closed:
            raise BackendUnavailable("the queue was closed")
        return self._leaders.retrying(topics, ask) if topics else {}

    def _serve(self, lookups: Sequence[Lookup], deadline: float) -> None:
        requested = frozenset[OffsetOf]().union(*(lookup.requested for lookup in lookups))
        try:
            answers = self._look_up(requested, deadline) if requested else {}
        except Exception as error:  # the driver may raise any error
            answers = dict.fromkeys(requested, error)
            self._coordinators = {}
        for lookup in lookups:
            lookup.answers = answers
        if self._closed:
            self._link.disconnect()

    def _look_up(self, requested: Collection[OffsetOf], deadline: float) -> dict[OffsetOf, int | Exception]:
        groups: dict[str, list[TopicPartition]] = defaultdict(list)
        lists: dict[tuple[int, int], list[TopicPartition]] = defaultdict(list)
        answers: dict[OffsetOf, int | Exception] = {}
        for what, partition in requested:
            leader = self._leaders.of(partition)
            if isinstance(what, str):
                groups[what].append(partition)
            elif leader == NO_LEADER:
                answers[what, partition] = errors.LeaderNotAvailableError(str(partition))
            else:
                lists[leader, what].append(partition)
        self._find_coordinators(groups.keys() - self._coordinators.keys(), deadline)
        requests = [(leader, list_offsets(what, partitions)) for (leader, what), partitions in lists.items()]
        requests += [
            (self._coordinators[group], _fetch_offsets(group, partitions)) for group, partitions in groups.items()
        ]
        responses = iter(self._link.ask(requests, deadline))
        for _, what in lists:
            answers |= listed(what, next(responses))
        for group in groups:
            answers |= self._fetched(group, next(responses))
        return answers

    def _find_coordinators(self, groups: Iterable[str], deadline: float) -> None:
        for group in groups:
            request = FindCoordinatorRequest(key=group, key_type=0, max_version=COORDINATOR_VERSION_MAX)
            (response,) = self._link.ask([(None, request)], deadline)
            if response.error_code:
                raise errors.for_code(response.error_code)(f"the coordinator of {group!r}")
            self._coordinators[group] = response.node_id

    def _fetched(self, group: str, response: Any) -> dict[OffsetOf, int | Exception]:
        """The offsets or errors in the response; -1 where nothing was committed."""
        if response.error_code:
            raise errors.for_code(response.error_code)(f"the offsets of {group!r}")
        return {
            (group, TopicPartition(topic.name, each.partition_index)): _failure(each) or each.committed_offset
            for topic in response.topics
            for each in topic.partitions
        }


def _offset_or_raise(answer: int | Exception) -> int:
    if isinstance(answer, Exception):
        raise answer
    return answer


def list_offsets(what: int, partitions: Iterable[TopicPartition]) -> Any:
    partition = ListOffsetsRequest.ListOffsetsTopic.ListOffsetsPartition
    topics = [
        ListOffsetsRequest.ListOffsetsTopic(
            name=name, partitions=[partition(partition_index=number, timestamp=what) for number in numbers]
        )
        for name, numbers in _by_topic(partitions).items()
    ]
    return ListOffsetsRequest(replica_id=-1, isolation_level=IsolationLevel.READ_UNCOMMITTED, topics=topics)


def _fetch_offsets(group: str, partitions: Iterable[TopicPartition]) -> Any:
    topics = [
        OffsetFetchRequest.OffsetFetchRequestTopic(name=name, partition_indexes=numbers)
        for name, numbers in _by_topic(partitions).items()
    ]
    return OffsetFetchRequest(group_id=group, topics=topics, require_stable=False, max_version=FETCH_VERSION_MAX)


def _by_topic(partitions: Iterable[TopicPartition]) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = defaultdict(list)
    for partition in partitions:
        topics[partition.topic].append(partition.partition)
    return topics


def listed(what: int, response: Any) -> dict[OffsetOf, int | Exception]:
    return {
        (what, TopicPartition(topic.name, each.partition_index)): _failure(each) or _offset(each)
        for topic in response.topics
        for each in topic.partitions
    }


def _failure(partition: Any) -> Exception | None:
    error: Exception | None = errors.for_code(partition.error_code)() if partition.error_code else None
    return error


def _offset(partition: Any) -> int | Exception:
    return int(partition.offset) if partition.offset >= 0 else errors.OffsetNotAvailableError()
