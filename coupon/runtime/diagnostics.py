"""Problems of a service whose backends all answer, as sentences for ``/readyz`` and ``coupon lag``."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from coupon.domain.clock import Clock, now_ms
from coupon.domain.codes import LENGTH
from coupon.domain.errors import BackendError, BackendRejected
from coupon.domain.model import CreateCoupons, Day, create
from coupon.domain.topics import GROUP, LAYOUTS, OUTBOX, all_topics, command_topics
from coupon.ports.queue import Position, Queue
from coupon.ports.store import Store
from coupon.runtime.worker_registry import Sign

OLD_S = 60
"""A message that has waited for longer is reported."""
NOBODY = Day("2000-01-01")
PROBE = create(CreateCoupons("probe", 1, 0, 1, (), "", NOBODY, NOBODY, 0, "probe"), "0" * LENGTH)


class Symptom(NamedTuple):
    """A problem: a sentence for anyone, and ``detail`` for operators only. That may show machines and messages."""

    sentence: str
    detail: str = ""

    @property
    def whole(self) -> str:
        return f"{self.sentence}: {self.detail}" if self.detail else self.sentence


def missing(queue: Queue, layout: str) -> set[str]:
    """The layout's topics that do not exist. Raises BackendUnavailable."""
    topics = all_topics(layout)
    return set() if _ends(queue, topics) is not None else {topic for topic in topics if _ends(queue, [topic]) is None}


def of_queue(queue: Queue, layout: str) -> list[Symptom]:
    """Topics that are missing, and messages in topics that no worker of this layout reads. Raises
    BackendUnavailable."""
    symptoms = [Symptom(f"the topic {topic!r} is missing: run coupon init") for topic in sorted(missing(queue, layout))]
    return symptoms + [Symptom(sentence) for sentence in stranded(queue, layout)]


def stranded(queue: Queue, layout: str) -> list[str]:
    """A sentence for each topic of another layout that has uncommitted messages. Raises BackendUnavailable."""
    sentences = []
    for other in LAYOUTS:
        for topic in command_topics(other):
            if topic in command_topics(layout) or _ends(queue, [topic]) is None:
                continue
            if waiting := queue.lag([topic], GROUP):
                sentences.append(
                    f"{waiting:,} messages wait in the topic {topic!r}, which workers with COUPON_TOPICS={other} drain"
                    f" and those with COUPON_TOPICS={layout} do not read"
                )
    return sentences


def of_store(store: Store) -> list[Symptom]:
    """Whether the store takes writes. It is tried with a write whose condition cannot be met."""
    try:
        store.save_many([PROBE._replace(revision=2**31)])
    except BackendError as error:
        return [Symptom("the store cannot be written", str(error))]
    return []


def of_workers(signs: Collection[Sign], layout: str) -> list[Symptom]:
    """Problems that living workers report by their signs, and topics that none of them reads."""
    symptoms = [Symptom(f"no living worker reads the topic {topic!r}") for topic in unread(signs, layout)]
    for sign in signs:
        symptoms += [
            Symptom(f"{partition} is left alone by its worker", f"{reason} ({_name(sign)})")
            for partition, reason in sorted(sign.left_alone.items())
        ]
        if sign.failure:
            symptoms.append(Symptom("a worker cannot go on", f"{sign.failure} ({_name(sign)})"))
    versions = sorted({sign.version for sign in signs})
    if len(versions) > 1:
        symptoms.append(Symptom(f"workers of several versions are alive: {', '.join(versions)}"))
    return symptoms


def unread(signs: Collection[Sign], layout: str) -> list[str]:
    """Topics that no worker with one of these signs reads."""
    read = {topic for sign in signs for topic in sign.topics}
    return [topic for topic in [*command_topics(layout), *OUTBOX] if topic not in read]


class Backlog(NamedTuple):
    """The messages of a topic that no worker has committed. ``oldest_s`` is the age in seconds of the oldest command
    among them, by its ``accepted_at``; None when there is none."""

    messages: int
    oldest_s: float | None


def backlogs(queue: Queue, topics: Sequence[str], clock: Clock = now_ms) -> dict[str, Backlog]:
    """By topic; those that do not exist are left out. Raises BackendUnavailable."""
    there = [topic for topic in topics if _ends(queue, [topic]) is not None]
    ends = queue.ends(there) if there else {}
    committed = queue.committed(ends, GROUP) if ends else {}
    found = {}
    for topic in there:
        behind = [position for position in _behind(ends, committed) if position.topic == topic]
        first = [_accepted_at(queue, position, committed[position]) for position in behind]
        instants = [instant for instant in first if instant is not None]
        oldest_s = max(0.0, (clock() - min(instants)) / 1000) if instants else None
        found[topic] = Backlog(sum(ends[position] - committed[position] for position in behind), oldest_s)
    return found


def oldest_s(queue: Queue, layout: str, clock: Clock = now_ms) -> float | None:
    """The age in seconds of the oldest command that no worker has committed; None when there is none. Raises
    BackendUnavailable."""
    found = backlogs(queue, command_topics(layout), clock).values()
    return max((each.oldest_s for each in found if each.oldest_s is not None), default=None)


def of_age(age_s: float | None) -> list[Symptom]:
    return [] if age_s is None or age_s < OLD_S else [Symptom(f"the oldest waiting command is {age_s:,.0f} s old")]


def _behind(ends: Mapping[Position, int], committed: Mapping[Position, int]) -> list[Position]:
    return [position for position, end in ends.items() if committed[position] < end]


def _accepted_at(queue: Queue, position: Position, offset: int) -> int | None:
    """The message's ``accepted_at`` in milliseconds, whatever version of Coupon wrote it; None when it has none."""
    for delivery in queue.read(position, offset, 1):
        try:
            instant = json.loads(delivery.value)["accepted_at"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return instant if isinstance(instant, int) else None
    return None


def _ends(queue: Queue, topics: Sequence[str]) -> Mapping[Position, int] | None:
    """None when a topic does not exist."""
    try:
        return queue.ends(topics)
    except BackendRejected:
        return None


def _name(sign: Sign) -> str:
    return f"worker {sign.pid} on {sign.host}, version {sign.version}"
