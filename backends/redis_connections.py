"""Connections to one Redis server, and what a reply that is an error means.

redis-py's own pool and client take 60 µs more a command than its connections, and connect again without a word. Here a
caller learns which run of the server replies: after a restart a server may have less than it had acknowledged.
"""

import os
import ssl
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as DriverTimeout
from redis.retry import Retry

from backends.cache.limits import check_prefix
from backends.deadline_socket import SHORTEST_S, PromptTlsSocket, prompt
from backends.tls import OPTIONS as TLS
from backends.tls import trust
from coupon.domain.errors import BackendUnavailable, ConfigurationError
from coupon.ports.url import Url

PORT = 6379
OLDEST = 7
"""The version whose streams count their own ids."""
PING_S = 1.0
IDLE_MAX = 64
"""Idle connections that are kept: more threads than that open one for each call."""
Command = tuple[Any, ...]
OPTIONS: dict[str, Any] = {**TLS, "prefix": "coupon:"}
"""What every backend on Redis takes in its URL, beside its ``timeout_s``."""


class RedisConnection(Connection):  # type: ignore[misc]
    """A connection to one run of a server."""

    until = 0.0
    """When the time of the present caller is over, of ``time.monotonic``."""

    run = ""
    """Names a start of the server, and its time as the master: what it has may be older in another one."""
    info: dict[str, str]
    """Of the server and its replication, when the connection was made."""

    def __init__(self, tls: ssl.SSLContext | None, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _connect(self) -> Any:
        connected = super()._connect()
        wrapped = (
            prompt(connected) if self._tls is None else self._tls.wrap_socket(connected, server_hostname=self.host)
        )
        self._begin_reply = wrapped.settimeout
        return wrapped

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The reply to each command, of one round trip. A reply that is an error is a ResponseError."""
        if not commands:
            return []
        self._begin_reply(max(SHORTEST_S, self.left_s))
        # In one piece: the timeout would be for each.
        self.send_packed_command([b"".join(self.pack_commands(commands))], check_health=False)
        return [self._reply() for _ in commands]

    def must(self, commands: Sequence[Command]) -> list[Any]:
        """As ``ask``. Raises the first error."""
        replies = self.ask(commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    @property
    def left_s(self) -> float:
        """Of the time that a caller has for all that it asks."""
        return self.until - time.monotonic()

    def is_open(self) -> bool:
        """False when it has ended, or says what nobody asked for."""
        try:
            return not self.can_read(0)
        except RedisError:
            return False

    def _reply(self) -> Any:
        try:
            return self.read_response()
        except ResponseError as error:
            return error


class RedisConnections:
    """Has as many connections as it ever had calls at once. Thread-safe; a forked process opens its own.

    ``prefix`` precedes the names of all keys, so that several services can share a database.
    For ``silence_s`` after a timeout no thread asks the server: each question would cost another timeout.
    """

    def __init__(
        self,
        url: Url,
        timeout_s: float,
        tls: bool = False,
        ca: str = "",
        prefix: str = "coupon:",
        silence_s: float = 0.0,
    ) -> None:
        check_prefix(prefix)
        addresses = url.addresses(PORT)
        if len(addresses) > 1:
            raise ConfigurationError(f"{url} names {len(addresses)} servers: a backend on Redis has one")
        if url.path and not url.path.isdecimal():
            raise ConfigurationError(f"the path of {url} is not the number of a database, such as redis://127.0.0.1/0")
        ((host, port),) = addresses
        self.prefix = prefix
        self.address, self.timeout_s, self._silence_s = f"{host}:{port}", timeout_s, silence_s
        self._context = trust(tls, ca)
        if self._context is not None:
            self._context.sslsocket_class = PromptTlsSocket
        self._options: dict[str, Any] = {
            "host": host.strip("[]"),
            "port": port,
            "db": int(url.path or 0),
            "username": url.user or None,
            "password": url.password or None,
            "protocol": 2,
            "driver_info": None,
        }
        self._idle: list[RedisConnection] = []
        """A stack. ``pop`` and ``append`` are atomic."""
        self._process, self._silent_until, self._closed = os.getpid(), float("-inf"), False
        self._finalizer = weakref.finalize(self, _close_all, self._idle)

    @contextmanager
    def connection(self, within_s: float | None = None) -> Iterator[RedisConnection]:
        """A connection of the caller's own. All in the block has the timeout together, connecting included. Raises
        BackendUnavailable, also for what the server refuses in the block."""
        self._check_open()
        within_s, began, connection = within_s or self.timeout_s, time.monotonic(), None
        try:
            connection = self._idle_connection() or self._open(within_s)
            connection.until = began + within_s
            yield connection
        except (RedisError, OSError) as error:
            if isinstance(error, TimeoutError | DriverTimeout):
                self._silent_until = time.monotonic() + self._silence_s
            _close_all([connection] if connection else [])
            raise BackendUnavailable(f"Redis at {self.address}: {error}") from error
        except BaseException:
            _close_all([connection] if connection else [])
            raise
        if self._closed or len(self._idle) >= IDLE_MAX:
            connection.disconnect()
        else:
            self._idle.append(connection)

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The replies, of one round trip. Raises BackendUnavailable when one is an error."""
        with self.connection() as connection:
            return connection.must(commands)

    @contextmanager
    def pinged(self) -> Iterator[RedisConnection]:
        """A connection whose server has replied, for what else is asked by a ping."""
        with self.connection(min(PING_S, self.timeout_s)) as connection:
            connection.must([("PING",)])
            yield connection

    def close(self) -> None:
        self._closed = True
        _close_all(self._idle)

    def _check_open(self) -> None:
        if self._closed:
            raise BackendUnavailable("Redis: the backend was closed")
        if time.monotonic() < self._silent_until:
            raise BackendUnavailable(f"Redis at {self.address} did not answer a moment ago")

    def _idle_connection(self) -> RedisConnection | None:
        if self._process != os.getpid():
            self._idle, self._process = [], os.getpid()  # the parent's go on in the parent
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                return None
            if connection.is_open():
                return connection
            connection.disconnect()
        return None

    def _open(self, within_s: float) -> RedisConnection:
        times = {"socket_timeout": within_s, "socket_connect_timeout": within_s, "retry": Retry(NoBackoff(), 0)}
        connection = RedisConnection(self._context, **times, **self._options)
        connection.until = time.monotonic() + within_s
        connection.connect()
        try:
            (info,) = connection.must([("INFO", "server", "replication")])
            connection.info = fields_of(info)
            connection.run = self._run_of(connection.info)
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def _run_of(self, info: dict[str, str]) -> str:
        """Raises BackendUnavailable when the server is none that can be used."""
        try:
            version, role = info["redis_version"], info["role"]
            if int(version.partition(".")[0]) < OLDEST:
                raise BackendUnavailable(f"Redis at {self.address} has version {version}: {OLDEST} is the oldest")
            if role != "master":
                raise BackendUnavailable(f"Redis at {self.address} is a {role}, and not the master")
            return f"{info['run_id'][:12]}{info['master_replid'][:12]}"
        except (KeyError, ValueError) as error:
            raise BackendUnavailable(f"Redis at {self.address} does not say what it is: {error}") from error


def fields_of(info: bytes) -> dict[str, str]:
    """The fields of a reply to INFO."""
    lines = info.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _close_all(connections: list[RedisConnection]) -> None:
    while connections:
        connections.pop().disconnect()
