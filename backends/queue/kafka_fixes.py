"""Fixes of kafka-python 3.0.12. All of its private names that we patch are in this module.

``ClosingClient`` leaves no thread and no socket behind.
    The driver closes its connections while its own thread works on them. A socket that could not connect is left to
    the garbage collector: one that was refused, and one that had no time left to connect. Without the fix an outage
    costs a file descriptor a second. Not fixed on the driver's main branch of 2026-08-17. No report of it was found.

It ends a TLS handshake in time, too, and tells why a connection failed.
    The driver waits for the other side of a handshake without a limit, and its caller with it. A failed handshake
    leaves its socket open. A broker says that a password is wrong, and hangs up: the driver throws away what came
    before the end of a connection. When no broker lets it in, it only says that it has no time left. Wrong credentials
    are tried again until then, which may lock a user out: its pull request 2994 was to end that, and does not. No
    report of the rest was found. On the main branch ``KafkaSSLTransport`` is in ``kafka.net.ssl`` (3133).

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
import ssl
import time
from typing import Any
from weakref import WeakSet

from kafka import errors
from kafka.consumer.fetcher import Fetcher
from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.net import KafkaNetClient, KafkaNetSocket
from kafka.net.manager import KafkaConnectionManager
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

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


def _in_time(handshake: Any) -> Any:
    """The driver's way to begin TLS, with a time limit where the event loop is ours. It closes the socket when that
    fails."""

    async def in_time(transport: Any) -> None:
        connection, loop = transport._sock, transport._net
        if not isinstance(loop, _ClosingSelector):
            await handshake(transport)
            return
        deadline = loop.handshake_deadline()
        loop.sockets.add(connection)
        try:
            while True:
                try:
                    connection.do_handshake()
                    return
                except ssl.SSLWantReadError:
                    await loop.wait_read(connection, timeout_at=deadline)
                except ssl.SSLWantWriteError:
                    await loop.wait_write(connection, timeout_at=deadline)
        except BaseException:
            connection.close()
            raise

    return in_time


def _whole(receive: Any) -> Any:
    """The driver's way to receive, which throws nothing away that came before the end of a connection."""

    def sock_recv(transport: Any) -> tuple[bytes, Exception | None]:
        received, error = receive(transport)
        return received, None if received else error

    return sock_recv


KafkaSSLTransport.handshake = _in_time(KafkaSSLTransport.handshake)
KafkaSSLTransport._sock_recv = _whole(KafkaSSLTransport._sock_recv)
KafkaTCPTransport._sock_recv = _whole(KafkaTCPTransport._sock_recv)


class _ClosingSelector(NetworkSelector):  # type: ignore[misc]  # kafka-python has no types
    """The driver's event loop. It knows the sockets that are connecting or connected, and closes them with itself."""

    def __init__(self, within_s: float, **configuration: Any) -> None:
        super().__init__(**configuration)
        self._within_s, self._ready_until = within_s, time.monotonic() + within_s
        self.sockets: WeakSet[Any] = WeakSet()

    def handshake_deadline(self) -> float:
        """Of one that begins now: at first the time that the client has to get ready, later as long again."""
        now = time.monotonic()
        return self._ready_until if now < self._ready_until else now + self._within_s

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


NO_ENTRY = (
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
"""Who is refused so is refused again, by every broker."""
NO_TIME = (errors.RequestTimedOutError, errors.KafkaTimeoutError)
"""What becomes of the last try in the time of a caller says less than the tries before."""


class _TellingManager(KafkaConnectionManager):  # type: ignore[misc]
    """Keeps why the last connection failed, if it did. It makes no more of them once a broker refused who we are."""

    failure: Exception | None = None

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        if isinstance(self.failure, NO_ENTRY):
            raise self.failure
        connection = super().get_connection(*arguments, **options)
        if not connection.init_future.is_done:
            connection.init_future.add_both(lambda _: self._keep(connection.init_future.exception))
            connection.close_future.add_errback(self._keep)
        return connection

    def _keep(self, failure: Exception | None) -> None:
        if failure is None and not self.bootstrapped:
            return  # a broker may still hang up on who is not let in
        says_less = self.failure is not None and isinstance(failure, NO_TIME)
        if not says_less and not isinstance(self.failure, NO_ENTRY):
            self.failure = failure


class ClosingClient(KafkaNetClient):  # type: ignore[misc]
    """The driver's connections. ``close`` leaves no thread and no socket, also when it fails. They have ``within_s`` to
    get ready."""

    def __init__(self, within_s: float = 10.0, **configuration: Any) -> None:
        self._event_loop = _ClosingSelector(within_s, **configuration)
        self._connections = _TellingManager(self._event_loop, **configuration)
        super().__init__(**(configuration | {"net": self._event_loop, "manager": self._connections}))

    @property
    def failure(self) -> Exception | None:
        """Why the last connection failed, if it did."""
        return self._connections.failure

    def not_ready(self, node_id: int) -> Exception:
        """The error for a broker that no connection could be made to."""
        failure = self.failure
        if failure is not None and isinstance(failure, NO_ENTRY):
            return failure
        reason = "" if failure is None else f": {failure}"
        not_ready: Exception = errors.NodeNotReadyError(f"broker {node_id}{reason}")
        return not_ready

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
