"""Where partitions begin and end, and where a group is: asked at the cache misses of a web process, so all threads of
it that ask at the same time go out in one round trip."""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from kafka import IsolationLevel, OffsetSpec, TopicPartition, errors
from kafka.protocol.consumer import ListOffsetsRequest, OffsetFetchRequest
from kafka.protocol.metadata import FindCoordinatorRequest

from backends.group_commit import GroupCommit
from backends.queue.kafka_client import Cluster
from backends.queue.kafka_leaders import NOBODY, Leaders
from backends.queue.kafka_link import Link
from coupon.ports.backend import BackendUnavailable
from coupon.ports.queue import Position

BEGIN, END = OffsetSpec.EARLIEST, OffsetSpec.LATEST
COORDINATOR_VERSION_MAX, FETCH_VERSION_MAX = 3, 7
"""Of the requests: the last in which there is one group, and topics go by their names."""

Wanted = tuple[int | str, TopicPartition]
"""BEGIN, END, or the name of a group; and of which partition."""
LEFT_OUT = errors.KafkaError("an answer leaves out what was asked")


class Question:
    """What one caller wants to know, and what came of it: an offset or an error each."""

    __slots__ = ("answers", "wanted")

    def __init__(self, wanted: Iterable[Wanted]) -> None:
        self.wanted = frozenset(wanted)
        self.answers: Mapping[Wanted, int | Exception] = {}


class Offsets:
    """One of a process, for all of its threads."""

    def __init__(self, cluster: Cluster, leaders: Leaders) -> None:
        self._cluster, self._leaders = cluster, leaders
        self._group = GroupCommit(self._serve)
        self._link = Link(cluster)
        self._coordinators: dict[str, int] = {}
        self._closed = False

    def ends(self, topics: Sequence[str], key: str | None) -> dict[Position, int]:
        def wanted() -> list[Wanted]:
            if key is not None:
                return [(END, self._leaders.place_of(topic, key)) for topic in topics]
            return [(END, place) for topic in topics for place in self._leaders.places(topic)]

        return self._positions(END, self._ask(topics, wanted))

    def begins(self, topics: Sequence[str]) -> dict[Position, int]:
        def wanted() -> list[Wanted]:
            return [(BEGIN, place) for topic in topics for place in self._leaders.places(topic)]

        return self._positions(BEGIN, self._ask(topics, wanted))

    def committed(self, positions: Collection[Position], group: str) -> dict[Position, int]:
        """A retention may have deleted what is behind a group, so its begin is asked for with it."""
        group_id = self._cluster.prefix + group

        def wanted() -> list[Wanted]:
            places = [self._leaders.place(position) for position in positions]
            return [(what, place) for what in (group_id, BEGIN) for place in places]

        offsets = self._ask({position.topic for position in positions}, wanted)
        begins, committed = self._positions(BEGIN, offsets), self._positions(group_id, offsets)
        return {position: max(begins[position], committed[position]) for position in positions}

    def close(self) -> None:
        """Whoever is asking finishes, and disconnects."""
        self._closed = True
        try:
            self._group.do(Question([]), time.monotonic() + 1.0)
        except TimeoutError:
            return

    def _positions(self, what: int | str, offsets: Mapping[Wanted, int]) -> dict[Position, int]:
        return {self._leaders.position(place): offset for (of, place), offset in offsets.items() if of == what}

    def _ask(self, topics: Collection[str], wanted: Callable[[], list[Wanted]]) -> dict[Wanted, int]:
        def ask(deadline: float) -> dict[Wanted, int]:
            question = Question(wanted())
            self._group.do(question, deadline)
            return {each: _offset_or_raise(question.answers.get(each, LEFT_OUT)) for each in question.wanted}

        if self._closed:
            raise BackendUnavailable("the queue was closed")
        return self._leaders.patiently(topics, ask) if topics else {}

    def _serve(self, questions: Sequence[Question], deadline: float) -> None:
        wanted = frozenset[Wanted]().union(*(question.wanted for question in questions))
        try:
            answers = self._look_up(wanted, deadline) if wanted else {}
        except Exception as error:  # of the driver, which throws anything
            answers = dict.fromkeys(wanted, error)
            self._coordinators = {}
        for question in questions:
            question.answers = answers
        if self._closed:
            self._link.disconnect()

    def _look_up(self, wanted: Collection[Wanted], deadline: float) -> dict[Wanted, int | Exception]:
        groups: dict[str, list[TopicPartition]] = defaultdict(list)
        lists: dict[tuple[int, int], list[TopicPartition]] = defaultdict(list)
        answers: dict[Wanted, int | Exception] = {}
        for what, place in wanted:
            leader = self._leaders.of(place)
            if isinstance(what, str):
                groups[what].append(place)
            elif leader == NOBODY:
                answers[what, place] = errors.LeaderNotAvailableError(str(place))
            else:
                lists[leader, what].append(place)
        self._find_coordinators(groups.keys() - self._coordinators.keys(), deadline)
        requests = [(leader, list_offsets(what, places)) for (leader, what), places in lists.items()]
        requests += [(self._coordinators[group], _fetch_offsets(group, places)) for group, places in groups.items()]
        responses = iter(self._link.ask(requests, deadline))
        for _, what in lists:
            answers |= listed(what, next(responses))
        for group in groups:
            answers |= self._fetched(group, next(responses))
        return answers

    def _find_coordinators(self, groups: Iterable[str], deadline: float) -> None:
        for group in groups:
            request = FindCoordinatorRequest(key=group, key_type=0, max_version=COORDINATOR_VERSION_MAX)
            (found,) = self._link.ask([(None, request)], deadline)
            if found.error_code:
                raise errors.for_code(found.error_code)(f"the coordinator of {group!r}")
            self._coordinators[group] = found.node_id

    def _fetched(self, group: str, response: Any) -> dict[Wanted, int | Exception]:
        """-1 where nothing was committed."""
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


def list_offsets(what: int, places: Iterable[TopicPartition]) -> Any:
    partition = ListOffsetsRequest.ListOffsetsTopic.ListOffsetsPartition
    topics = [
        ListOffsetsRequest.ListOffsetsTopic(
            name=name, partitions=[partition(partition_index=number, timestamp=what) for number in numbers]
        )
        for name, numbers in _by_topic(places).items()
    ]
    return ListOffsetsRequest(replica_id=-1, isolation_level=IsolationLevel.READ_UNCOMMITTED, topics=topics)


def _fetch_offsets(group: str, places: Iterable[TopicPartition]) -> Any:
    topics = [
        OffsetFetchRequest.OffsetFetchRequestTopic(name=name, partition_indexes=numbers)
        for name, numbers in _by_topic(places).items()
    ]
    return OffsetFetchRequest(group_id=group, topics=topics, require_stable=False, max_version=FETCH_VERSION_MAX)


def _by_topic(places: Iterable[TopicPartition]) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = defaultdict(list)
    for place in places:
        topics[place.topic].append(place.partition)
    return topics


def listed(what: int, response: Any) -> dict[Wanted, int | Exception]:
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
