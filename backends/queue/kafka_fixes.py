"""Fixes of kafka-python 3.0.12. All of its private names that we patch are in this module.

``ClosingClient`` leaves no thread and no socket behind.
    The driver closes its connections while its own thread works on them. A socket that could not connect is left to
    the garbage collector: one that was refused, and one that had no time left to connect. Without the fix an outage
    costs a file descriptor a second. Not fixed on the driver's main branch of 2026-08-17. No report of it was found.

``JoinResultFix`` lets a member into its group although its polls are shorter than a join.
    A join goes on in the driver's own thread when a poll ends before it. The next poll looks for its outcome only if a
    flag asked for the join. A change of the topics' metadata does not set that flag, and the member has no partitions
    then, indefinitely. A join that ended between two polls is thrown away, and another one makes all members join
    again. Without the fix 8 of 25 joins hung with polls of 20 ms (decision 7).
    Not fixed on the main branch, and no report of it was found.

``ResumeFix`` lets a partition go on that was paused before all of its fetched messages were delivered.
    The driver keeps the messages of paused partitions (its pull request 2981). But it also keeps the last batch that
    it delivered, now empty, and takes it for undelivered messages. Without the fix the partition stays paused. Not
    fixed on the main branch, and no report of it was found.
"""

import errno
import socket
from typing import Any
from weakref import WeakSet

from kafka import errors
from kafka.consumer.fetcher import Fetcher
from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.net import KafkaNetClient, KafkaNetSocket

try:
    from kafka.net import NetworkSelector
except ImportError:  # the driver's main branch
    from kafka.net.backend.selector import NetworkSelector


def _closing(connect: Any) -> Any:
    """The driver's way to connect a socket, which closes one that it could not connect: for want of time, at once."""

    async def sock_connect(factory: Any, net: Any, sock: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return await connect(factory, net, sock, *arguments, **options)
        except BaseException:
            sock.close()
            raise

    return sock_connect


KafkaNetSocket.sock_connect = _closing(KafkaNetSocket.sock_connect)


class _ClosingSelector(NetworkSelector):  # type: ignore[misc]  # kafka-python has no types
    """The driver's event loop. It knows the sockets that are connecting or connected, and closes them with itself."""

    def __init__(self, **configuration: Any) -> None:
        super().__init__(**configuration)
        self.sockets: WeakSet[Any] = WeakSet()

    async def wait_write(self, fileobj: Any, timeout_at: float | None = None) -> None:
        """The driver waits here for a new socket to connect, with a time limit, and later for a full one without."""
        if timeout_at is None:
            await super().wait_write(fileobj)
            return
        self.sockets.add(fileobj)
        await super().wait_write(fileobj, timeout_at=timeout_at)
        error = fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise errors.KafkaConnectionError(f"{error} {errno.errorcode.get(error, 'UNKNOWN')}")

    def close(self) -> None:
        super().close()
        for connection in self.sockets:
            connection.close()


class ClosingClient(KafkaNetClient):  # type: ignore[misc]
    """The driver's connections. ``close`` leaves no thread and no socket, also when it fails."""

    def __init__(self, **configuration: Any) -> None:
        self._event_loop = _ClosingSelector(**configuration)
        super().__init__(**(configuration | {"net": self._event_loop}))

    def close(self, node_id: Any = None) -> None:
        if node_id is not None:
            super().close(node_id)
            return
        self._event_loop.stop()
        try:
            super().close()
        finally:
            self._event_loop.close()


class JoinResultFix(ConsumerCoordinator):  # type: ignore[misc]
    """Keeps the outcome of a join until a poll takes it."""

    _outcome: tuple[int, bytes] | None = None
    """The generation that was joined, and the partitions assigned in it."""

    async def _do_join_and_sync_async(self) -> bytes:
        outcome, self._outcome = self._outcome, None
        if outcome is not None and self.rebalance_in_progress():
            generation, assigned = outcome
            if generation == self.group_metadata().generation_id:
                return assigned
        self.request_rejoin()
        assignment: bytes = await super()._do_join_and_sync_async()
        self._outcome = self.group_metadata().generation_id, assignment
        return assignment

    async def _on_join_complete_async(self, *joined: Any) -> None:
        self._outcome = None
        await super()._on_join_complete_async(*joined)


class ResumeFix(Fetcher):  # type: ignore[misc]
    """Drops the last delivered batch when it is empty."""

    _next_partition_records: Any

    def fetched_records(self, *arguments: Any, **options: Any) -> Any:
        if not self._next_partition_records:
            self._next_partition_records = None
        return super().fetched_records(*arguments, **options)


def apply_fixes(consumer: Any) -> None:
    """Replace the coordinator and the fetcher of the driver's consumer, which has no option for that."""
    consumer._coordinator.__class__ = JoinResultFix
    consumer._fetcher.__class__ = ResumeFix
