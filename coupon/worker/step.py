"""One step of the worker: apply a part, dead-letter its failures, and put the finished tasks into the checkpoint."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from coupon.applying.batch import BadMessage, ForgedMessage, OtherVersion, Payload, Task
from coupon.domain.errors import BackendError, BackendUnavailable, StillUnavailable
from coupon.worker.checkpoint import Checkpoint
from coupon.worker.dead_letter_policy import DeadLetterPolicy, Failure, Failures
from coupon.worker.deferred import DeferredCommands
from coupon.worker.horizons import Horizons

Handler = Callable[[Sequence[Task]], Failures]
"""Applies tasks whose payloads have one type, and returns why some of them can never be applied."""


def bad_messages(tasks: Sequence[Task]) -> Failures:
    """The handler of messages that could not be decoded."""
    return {task.record_id: Failure(task.payload.reason) for task in tasks if isinstance(task.payload, BadMessage)}


def forged_messages(tasks: Sequence[Task]) -> Failures:
    """The handler of messages that are not believed. Anybody may have written them, so they pause nothing."""
    return {
        task.record_id: Failure(task.payload.reason, is_poison=False)
        for task in tasks
        if isinstance(task.payload, ForgedMessage)
    }


class Step:
    """The step of one worker. ``handlers`` has the handler of each type of payload, in the order in which they work."""

    def __init__(
        self,
        handlers: Mapping[type[Payload], Handler],
        policy: DeadLetterPolicy,
        deferred: DeferredCommands,
        horizons: Horizons,
        checkpoint: Checkpoint,
    ) -> None:
        self._handlers, self._policy, self._deferred = handlers, policy, deferred
        self._horizons, self._checkpoint = horizons, checkpoint

    def run(self, part: Sequence[Task]) -> None:
        """Raises BackendError or StillUnavailable: then the part has to be delivered again."""
        deferred = [task for task in part if task in self._deferred]
        try:
            self._run(part)
        except BackendError:
            self._defer_again(deferred)
            raise

    def _run(self, part: Sequence[Task]) -> None:
        part = [task for task in part if not self._is_left_alone(task)]
        deferred = [task for task in part if task in self._deferred]
        try:
            failures = self._handle(part)
        except (StillUnavailable, BackendUnavailable):
            raise
        except Exception as error:
            if len(part) > 1:
                self._defer_again(deferred)
                self._run_one_by_one(part)
                return
            failures = {part[0].record_id: Failure(str(error) if isinstance(error, BackendError) else repr(error))}
        self._finish(part, failures, deferred)

    def _run_one_by_one(self, part: Sequence[Task]) -> None:
        """Run each task as a step of its own, to find those that fail: no message may stop the messages behind it."""
        for task in part:
            self._run([task])

    def _handle(self, part: Sequence[Task]) -> Failures:
        tasks: dict[type[Payload], list[Task]] = {}
        for task in part:
            tasks.setdefault(type(task.payload), []).append(task)
        failures: Failures = {}
        for payload_type in sorted(tasks, key=list(self._handlers).index):
            failures |= self._handlers[payload_type](tasks[payload_type])
        return failures

    def _finish(self, part: list[Task], failures: Failures, deferred: Sequence[Task]) -> None:
        """Dead-letter the failures, and put the finished tasks into the checkpoint. ``deferred`` were so before the
        step."""
        done = [task for task in self._policy.dead_letter(part, failures) if not task.is_partial]
        for task in done:
            if task.record_id in failures:
                self._deferred.release(task)
        done_ids, deferred_ids = {task.record_id for task in done}, {task.record_id for task in deferred}
        self._defer_again(task for task in deferred if task.record_id in failures and task.record_id not in done_ids)
        self._checkpoint.done(
            [task for task in done if task.record_id not in deferred_ids or task not in self._deferred]
        )
        for task in done:
            self._horizons.reach(task.position, task.delivery.offset + 1)

    def _defer_again(self, tasks: Iterable[Task]) -> None:
        """Defer again what was released without being done or dead-lettered: a commit would skip it."""
        for task in tasks:
            self._deferred.defer_again(task)

    def _is_left_alone(self, task: Task) -> bool:
        """Whether its partition is paused. A message of another version pauses it, and reaches no handler."""
        if isinstance(task.payload, OtherVersion):
            self._policy.leave_alone(task, task.payload.reason)
        return task.position in self._policy.left_alone and task not in self._deferred
