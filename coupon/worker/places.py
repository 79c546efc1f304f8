"""Whether a message stands in its key's partition. Elsewhere it keeps no order, though one topic does.

There it may be a copy, which somebody without a key has made, or older than the present number of partitions. The queue
is asked only about commands that would be rejected because their predecessor is missing.
"""

from coupon.applying.batch import RecordId, Task
from coupon.ports.queue import Queue

RECORDS_MAX = 100_000
"""The most record ids that are remembered. The queue is asked again about others."""


class Places:
    """Those of one worker. ``ordered``: one topic carries all changes of a coupon."""

    def __init__(self, queue: Queue, *, ordered: bool) -> None:
        self._queue, self._ordered = queue, ordered
        self._elsewhere: set[RecordId] = set()

    def keeps_order(self, record_id: RecordId) -> bool:
        """Whether the predecessor was delivered before that message, as far as this is known."""
        return self._ordered and record_id not in self._elsewhere

    def is_elsewhere(self, task: Task) -> bool:
        """Whether the message does not stand in its key's partition. Raises BackendUnavailable."""
        if task.record_id in self._elsewhere:
            return True
        if task.position in self._queue.ends([task.position.topic], task.delivery.key):
            return False
        if len(self._elsewhere) >= RECORDS_MAX:
            self._elsewhere.clear()
        self._elsewhere.add(task.record_id)
        return True
