"""Which messages are dead-lettered. No message may stop the messages behind it, and no bad deployment may dead-letter
good messages.

- A message that can never be applied is dead-lettered once.
- Many such messages in a row, or messages of another version, are a sign of a bad deployment. Then their partition is
  paused, with a critical log line, until the worker is started again. Other partitions are not.
- A message that is forged counts for none of this: anybody may have written it. So that a flood of them fills no topic
  and no log, only some are dead-lettered.
- A command that builds on a dead-lettered command is dead-lettered, too. A replay of both, in order, applies both.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import structlog

from coupon.applying import dead_letters
from coupon.applying.batch import ForgedMessage, RecordId, Task
from coupon.domain.clock import Clock
from coupon.domain.errors import BackendRejected, BackendUnavailable, Malformed
from coupon.domain.model import ChangeCoupon
from coupon.domain.serialization import decode_command
from coupon.domain.topics import DEAD_LETTERS
from coupon.ports.queue import Position, Queue
from coupon.runtime.logs import trace
from coupon.runtime.metrics import DEAD_LETTERED
from coupon.worker.forgeries import Forgeries

RECORDS_MAX = 100_000
"""The most record ids of dead letters that are remembered, to recognise messages that are delivered again."""
OPERATIONS_MAX = 100_000
"""The most operations of dead letters that are remembered, of all workers, the newest ones."""
READ_AT_ONCE = 500
log = structlog.get_logger("coupon.worker")


class Failure(NamedTuple):
    """Why a message is dead-lettered. ``is_poison``: many of these in a row make the partition suspicious."""

    reason: str
    is_poison: bool = True


Failures = dict[RecordId, Failure]


class DeadLetterPolicy:
    """The policy of one worker."""

    def __init__(self, queue: Queue, clock: Clock, in_a_row_max: int) -> None:
        self._queue, self._clock, self._in_a_row_max = queue, clock, in_a_row_max
        self._known: OrderedDict[RecordId, None] = OrderedDict()
        self._in_a_row: Counter[Position] = Counter()
        self._left_alone: dict[Position, str] = {}
        self._operations: OrderedDict[str, None] = OrderedDict()
        self._read_to: dict[Position, int] = {}
        self._is_up_to_date = False
        self._forgeries = Forgeries(clock)

    @property
    def left_alone(self) -> Mapping[Position, str]:
        """The partitions that are paused, with the reasons."""
        return self._left_alone

    def leave_alone(self, task: Task, reason: str) -> None:
        """Pause the message's partition: neither this message nor one behind it is applied."""
        if task.position not in self._left_alone:
            self._left_alone[task.position] = f"offset {task.record_id.offset}: {reason}"
            log.critical("partition left alone", record_id=task.record_id, reason=reason)

    def dead_letter(self, part: list[Task], failures: Mapping[RecordId, Failure]) -> list[Task]:
        """Dead-letter the tasks that failed. Returns the tasks that are done, in order: all but those of partitions
        that are paused from that task on. Raises BackendUnavailable."""
        in_a_row, failed, done = self._in_a_row.copy(), list[Task](), list[Task]()
        stopped: dict[Position, tuple[Task, str]] = {}
        for task in part:
            failure = failures.get(task.record_id)
            if task.position in stopped or task.position in self._left_alone:
                continue
            if failure is None:
                in_a_row[task.position] = 0
            elif task.record_id not in self._known:
                in_a_row[task.position] += failure.is_poison
                if failure.is_poison and in_a_row[task.position] >= self._in_a_row_max:
                    stopped[task.position] = task, f"{in_a_row[task.position]} dead letters in a row: {failure.reason}"
                    continue
                failed.append(task)
            done.append(task)
        self._publish(failed, failures)
        self._in_a_row = in_a_row
        for task, reason in stopped.values():
            self.leave_alone(task, reason)
        return done

    def mark_stale(self) -> None:
        """Let the next lookup read new dead letters, of other workers too."""
        self._is_up_to_date = False

    def was_dead_lettered(self, operation: str) -> bool:
        """Whether any worker had dead-lettered a command of that operation when ``mark_stale`` was last called. Raises
        BackendUnavailable."""
        if operation not in self._operations and not self._is_up_to_date:
            try:
                self._read_new()
            except BackendRejected as error:
                raise BackendUnavailable(f"{error}: run coupon init") from error
            self._is_up_to_date = True
        return operation in self._operations

    def _read_new(self) -> None:
        """Remember the operations of the dead letters since the last call; at the first call, of the newest ones."""
        ends = self._queue.ends([DEAD_LETTERS])
        for position, end in ends.items():
            begin = self._read_to.get(position, 0)
            begin = max(0 if begin > end else begin, end - OPERATIONS_MAX // len(ends))  # it may have been recreated
            while begin < end and (messages := self._queue.read(position, begin, READ_AT_ONCE)):
                letters = dead_letters.decode_all(messages, self._forgeries.pass_over)
                self._remember(_operation_of(letter.value) for letter in letters if not letter.forged)
                begin = messages[-1].offset + 1
            self._read_to[position] = max(begin, end)

    def _remember(self, operations: Iterable[str]) -> None:
        self._operations |= dict.fromkeys(operations)
        while len(self._operations) > OPERATIONS_MAX:
            self._operations.popitem(last=False)

    def _publish(self, tasks: list[Task], failures: Mapping[RecordId, Failure]) -> None:
        at = self._clock()
        tasks = self._forgeries.some(tasks)
        self._queue.publish([dead_letters.encode(task.delivery, failures[task.record_id].reason, at) for task in tasks])
        for task in tasks:
            self._known[task.record_id] = None
            DEAD_LETTERED.add(task.position.topic)
            if isinstance(task.payload, ChangeCoupon):
                self._remember([task.payload.operation])
            if not isinstance(task.payload, ForgedMessage):
                reason, of_request = failures[task.record_id].reason, trace(getattr(task.payload, "traceparent", ""))
                log.error("dead letter", record_id=task.record_id, reason=reason, **of_request)
        while len(self._known) > RECORDS_MAX:
            self._known.popitem(last=False)


def _operation_of(value: bytes) -> str:
    """The operation of the command; empty when it cannot be decoded."""
    try:
        return decode_command(value).operation
    except Malformed:
        return ""
