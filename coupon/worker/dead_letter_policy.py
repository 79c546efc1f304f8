"""What becomes of messages that cannot be applied: no message may stop all those behind it, and no bad deployment
may put good messages aside.

- What can never be applied is dead-lettered, once each.
- A partition with many such messages in a row, or with messages of another version, is no bad data but a bad
  deployment: it is left alone, loudly, until the worker is started again. The others go on.
- What builds on a dead-lettered command is dead-lettered, too: a replay of both, in their order, brings both back.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import structlog

from coupon.applying import dead_letters
from coupon.applying.batch import Place, Task
from coupon.domain.clock import Clock
from coupon.domain.model import ChangeCoupon
from coupon.domain.serialization import Malformed, decode_command
from coupon.domain.topics import DEAD_LETTERS
from coupon.ports.backend import BackendRejected, BackendUnavailable
from coupon.ports.queue import Position, Queue

PLACES_MAX = 100_000
"""So many of those that were dead-lettered are known again when they are redelivered."""
OPERATIONS_MAX = 100_000
"""So many of the newest letters are known by their operation, this worker's and those of others."""
READ_AT_ONCE = 500
log = structlog.get_logger("coupon.worker")


class Failure(NamedTuple):
    """Why a message is dead-lettered. ``is_poison``: many of these in a row make the partition suspicious."""

    reason: str
    is_poison: bool = True


class DeadLetterPolicy:
    """Of one worker."""

    def __init__(self, queue: Queue, clock: Clock, in_a_row_max: int) -> None:
        self._queue, self._clock, self._in_a_row_max = queue, clock, in_a_row_max
        self._known: OrderedDict[Place, None] = OrderedDict()
        self._in_a_row: Counter[Position] = Counter()
        self._left_alone: dict[Position, str] = {}
        self._operations: OrderedDict[str, None] = OrderedDict()
        self._read_to: dict[Position, int] = {}
        self._is_up_to_date = False

    @property
    def left_alone(self) -> Mapping[Position, str]:
        """The partitions that are, and why."""
        return self._left_alone

    def leave_alone(self, task: Task, reason: str) -> None:
        """Nothing of its partition is applied any more, from this message on."""
        if task.position not in self._left_alone:
            self._left_alone[task.position] = f"offset {task.place[1]}: {reason}"
            log.critical("partition left alone", place=task.place, reason=reason)

    def dead_letter(self, part: list[Task], letters: Mapping[Place, Failure]) -> list[Task]:
        """Publish the letters; returns what of the part is done with, in order. The others are of partitions that are
        left alone from there on. Raises BackendUnavailable."""
        in_a_row, given_up, done = self._in_a_row.copy(), list[Task](), list[Task]()
        stopped: dict[Position, tuple[Task, str]] = {}
        for task in part:
            letter = letters.get(task.place)
            if task.position in stopped or task.position in self._left_alone:
                continue
            if letter is None:
                in_a_row[task.position] = 0
            elif task.place not in self._known:
                in_a_row[task.position] += letter.is_poison
                if letter.is_poison and in_a_row[task.position] >= self._in_a_row_max:
                    stopped[task.position] = task, f"{in_a_row[task.position]} dead letters in a row: {letter.reason}"
                    continue
                given_up.append(task)
            done.append(task)
        self._publish(given_up, letters)
        self._in_a_row = in_a_row
        for task, reason in stopped.values():
            self.leave_alone(task, reason)
        return done

    def look_again(self) -> None:
        """Others may have put something aside meanwhile: the next question finds it."""
        self._is_up_to_date = False

    def was_dead_lettered(self, operation: str) -> bool:
        """Whether a command of that operation is among the dead letters, this worker's or another's, of those that were
        there at the last ``look_again``. Raises BackendUnavailable."""
        if operation not in self._operations and not self._is_up_to_date:
            try:
                self._read_new()
            except BackendRejected as error:
                raise BackendUnavailable(f"{error}: run coupon init") from error
            self._is_up_to_date = True
        return operation in self._operations

    def _read_new(self) -> None:
        """The letters that came since the last time; at first, the newest."""
        ends = self._queue.ends([DEAD_LETTERS])
        for position, end in ends.items():
            begin = self._read_to.get(position, 0)
            begin = max(0 if begin > end else begin, end - OPERATIONS_MAX // len(ends))  # it may have been recreated
            while begin < end and (messages := self._queue.read(position, begin, READ_AT_ONCE)):
                self._remember(_operation_of(letter.value) for letter in dead_letters.letters_of(messages))
                begin = messages[-1].offset + 1
            self._read_to[position] = max(begin, end)

    def _remember(self, operations: Iterable[str]) -> None:
        self._operations |= dict.fromkeys(operations)
        while len(self._operations) > OPERATIONS_MAX:
            self._operations.popitem(last=False)

    def _publish(self, tasks: list[Task], letters: Mapping[Place, Failure]) -> None:
        at = self._clock()
        self._queue.publish([dead_letters.encode(task.delivery, letters[task.place].reason, at) for task in tasks])
        for task in tasks:
            self._known[task.place] = None
            if isinstance(task.wanted, ChangeCoupon):
                self._remember([task.wanted.operation])
            log.error("dead letter", place=task.place, reason=letters[task.place].reason)
        while len(self._known) > PLACES_MAX:
            self._known.popitem(last=False)


def _operation_of(value: bytes) -> str:
    """None of ours is empty."""
    try:
        return decode_command(value).operation
    except Malformed:
        return ""
