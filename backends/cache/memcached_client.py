"""Fixes of python-memcached 1.62. All of its private names that we use are in this module.

``StrictClient`` raises when memcached fails.
    The driver itself returns "missing" or "not stored" when a server is unavailable. It asks another server instead,
    whose copy becomes stale, and ignores the first one for 30 s. It sends a command again when its reply was lost, and
    unpickles values. Here a failure is raised, a key has one server, a command is sent once, and nothing is unpickled.
    The promises of the cache depend on it, so there is no fallback: a driver without these names fails at the start.

``write_many`` takes one round trip where the driver takes two for each write.
    With a driver whose connection differs, it takes those, and logs one warning.
"""

import os
import re
import select
import socket
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, NoReturn, Self

import memcache
import structlog

from backends.cache.limits import VALUE_MAX
from backends.deadline_socket import DeadlineSocket
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.ports.cache import Cached

SILENCE_S = 0.5
"""After a timeout no thread asks the server for so long: each question would cost another timeout."""
ANSWERS = {
    b"VALUE": (b"VALUE", b"END"),
    b"STORED": (b"STORED", b"NOT_STORED", b"EXISTS", b"NOT_FOUND"),
    b"DELETED": (b"DELETED", b"NOT_FOUND"),
    b"END": (b"END",),
    b"VERSION": (b"VERSION",),
}
"""How a reply may begin, by the expected one. python-memcached takes any other reply for a miss."""
STATISTIC = re.compile(r"^STAT (\S+) (.*)\r$", re.MULTILINE)
STATISTICS_END = b"\r\nEND\r\n"
RECEIVED_MAX = 65_536
OURS = 0
"""The flags of our own values: plain bytes."""
FOREIGN = b""
"""Replaces a value that somebody else wrote: one with other flags, or too long."""
NO_SUCH_TOKEN = 0
"""An id that no entry has: memcached counts from 1."""
HOOKS = ("send_cmd", "recv", "close_socket")
"""The methods of the driver's connection that several commands in one round trip use."""
TRIP_MAX = 32
"""The most writes in a round trip, and the most others. Entries are a few hundred bytes: what is sent before a reply is
read fits into the buffers of both sides."""
ANSWER_MAX = (2 * TRIP_MAX + 1) * VALUE_MAX
"""The most bytes of the replies of a round trip."""
TOO_LARGE = b"SERVER_ERROR object too large"
FAILURES = (memcache._Error, OSError)
"""The errors that the driver's connection raises."""
log = structlog.get_logger("coupon.cache")


def can_pipeline() -> bool:
    """Whether two commands can go in one round trip. Warns when they cannot."""
    missing = [hook for hook in HOOKS if not hasattr(_Server, hook)]
    if missing:
        log.warning("memcached with two round trips for one", missing=missing)
    return not missing


def _token_of(value: bytes, found: Cached | None) -> int:
    """The id of the entry, if it is still the one with that value."""
    return found.token if found is not None and found.value == value else NO_SUCH_TOKEN


class NamedWrite(NamedTuple):
    """A ``Write`` by its name in memcached: ``add``, or ``cas`` of the token."""

    name: bytes
    value: bytes
    ttl_s: int
    token: int | None = None

    def command(self) -> bytes:
        head = b"%s 0 %d %d" % (self.name, self.ttl_s, len(self.value))
        return b"add " + head if self.token is None else b"cas %s %d" % (head, self.token)


def _trips(writes: Sequence[int], others: Sequence[bytes]) -> Iterator[tuple[Sequence[int], Sequence[bytes]]]:
    """The round trips to one server. The first of the others go with the last writes."""
    last = max(len(writes) - 1, 0) // TRIP_MAX * TRIP_MAX
    for first in range(0, last, TRIP_MAX):
        yield writes[first : first + TRIP_MAX], []
    for first in range(0, max(len(others), 1), TRIP_MAX):
        yield ([] if first else writes[last:]), others[first : first + TRIP_MAX]


class StrictClient(memcache.Client):  # type: ignore[misc]  # python-memcached has no types
    """A thread-local: ``__init__`` runs once a thread, which has connections of its own. ``silent_until`` is shared.

    Each use is a ``with`` block. At its end all compare-and-set ids are forgotten. After an error it also closes the
    connections, because replies may still arrive on them.
    """

    def __init__(
        self, servers: Sequence[str], timeout_s: float, silent_until: dict[Any, float], *, pipelines: bool
    ) -> None:
        self._silent_until, self._pipelines = silent_until, pipelines
        super().__init__(
            servers,
            socket_timeout=timeout_s,
            cache_cas=True,
            check_keys=False,  # our limits are narrower, and checked
            server_max_value_length=0,  # a longer value would silently not be stored: let the server say so
            pickler=_NoPickle,
            unpickler=_NoPickle,
            decompressor=_NoPickle,
        )

    def set_servers(self, servers: Sequence[str]) -> None:
        self.servers = [_Server(address, self.socket_timeout, self._silent_until) for address in servers]
        self.buckets = self.servers

    def write_many(
        self, writes: Sequence[NamedWrite], others: Sequence[bytes] = ()
    ) -> tuple[list[int | None], dict[bytes, Cached]]:
        """``add`` each, or ``cas`` where it has a token; then ``gets`` the others, on each server after its writes.

        Returns the ids of the new entries, and the others by name. The id is None for what was not stored. It is
        ``NO_SUCH_TOKEN`` for what was stored, when the entry is another one already."""
        if not self._pipelines:
            return [self._store_then_get(write) for write in writes], self._get_each(others)
        ids: dict[int, int | None] = {}
        found: dict[bytes, Cached] = {}
        by_server: dict[_Server, tuple[list[int], list[bytes]]] = defaultdict(lambda: ([], []))
        for index, write in enumerate(writes):
            by_server[self.server_of(write.name)][0].append(index)
        for name in others:
            by_server[self.server_of(name)][1].append(name)
        for server, its in by_server.items():
            for part, asked in _trips(*its):
                new_ids, entries = self._trip(server, [writes[index] for index in part], asked)
                ids |= zip(part, new_ids, strict=True)
                found |= entries
        return [ids[index] for index in range(len(writes))], {name: found[name] for name in others if name in found}

    def get_many(self, names: Sequence[bytes]) -> dict[bytes, Cached]:
        """The entries with their ids, by name. A value is ``FOREIGN`` when somebody else wrote it."""
        return self.write_many([], names)[1]

    def _trip(
        self, server: "_Server", writes: Sequence[NamedWrite], others: Sequence[bytes]
    ) -> tuple[list[int | None], dict[bytes, Cached]]:
        """One round trip. memcached returns the id of a new entry to ``gets`` only."""
        names = [*(write.name for write in writes), *others]
        lines = [line for write in writes for line in (write.command(), write.value)]
        try:
            server.connect()
            server.send_cmd(b"\r\n".join([*lines, b"gets " + b" ".join(names)]))
            are_stored = [server.expect(b"STORED") == b"STORED" for _ in writes]
            found = self._found(server, names)
        except FAILURES as error:
            server.mark_dead(error)
        ids = [
            _token_of(write.value, found.get(write.name)) if is_stored else None
            for write, is_stored in zip(writes, are_stored, strict=True)
        ]
        return ids, found

    def _store_then_get(self, write: NamedWrite) -> int | None:
        """The same with a round trip for each, by the driver's documented methods."""
        name, value, ttl_s, token = write
        if token is not None:
            self.cas_ids[name] = token
        is_stored = self.add(name, value, ttl_s) if token is None else self.cas(name, value, ttl_s)
        return _token_of(value, self._get_each([name]).get(name)) if is_stored else None

    def _get_each(self, names: Sequence[bytes]) -> dict[bytes, Cached]:
        values = [(name, self.gets(name)) for name in names]
        return {name: Cached(value, self.cas_ids[name]) for name, value in values if value is not None}

    def _found(self, server: "_Server", names: Sequence[bytes]) -> dict[bytes, Cached]:
        """The server's reply to ``gets``. A value that is longer than any of ours is not read: the others are asked for
        once more."""
        found: dict[bytes, Cached] = {}
        while (line := server.expect(b"VALUE")) != b"END":
            _, key, flags, length, token = line.split()
            if key not in names:
                raise BackendUnavailable(f"memcached at {server} answered for {key[:100]!r}")
            size = int(length)
            if not 0 <= size <= VALUE_MAX:
                server.close_socket()
                left = [name for name in names if name != key and name not in found]
                return found | {key: Cached(FOREIGN, int(token))} | (self.get_many(left) if left else {})
            value = server.recv(size + 2)[:-2]
            found[key] = Cached(value if int(flags) == OURS else FOREIGN, int(token))
        return found

    def _connected(self, name: bytes) -> "_Server":
        server = self.server_of(name)
        server.connect()
        return server

    def server_of(self, name: bytes) -> "_Server":
        """The server that has the key. No I/O."""
        server: _Server = self.buckets[memcache.serverHashFunction(name) % len(self.buckets)]
        return server

    def statistics(self, name: bytes) -> dict[str, str]:
        """The statistics of the key's server, and its settings (``setting …``). A connection asks for settings once: a
        server with other settings was restarted, and has another connection."""
        server = self._connected(name)
        try:
            if server.settings is None:
                settings = server.statistics(b"stats settings")
                server.settings = {f"setting {name}": value for name, value in settings.items()}
            return server.settings | server.statistics(b"stats")
        except FAILURES as error:
            server.mark_dead(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.cas_ids.clear()
        if error is None:
            return
        # A reply that is still to arrive would be taken for the reply to the next command.
        self.disconnect_all()
        if isinstance(error, OSError | ValueError):
            raise BackendUnavailable(f"memcached: {error}") from error


class _Server(memcache._Host):  # type: ignore[misc]  # python-memcached has no types
    """One thread's connection to one server."""

    socket: Any = None
    socket_timeout: float
    settings: dict[str, str] | None = None

    def __init__(self, address: str, timeout_s: float, silent_until: dict[Any, float]) -> None:
        super().__init__(address, socket_timeout=timeout_s)
        self.place = str(self.address)
        self._silent_until = silent_until

    def __del__(self) -> None:
        self.close_socket()

    def mark_dead(self, reason: object) -> NoReturn:
        """python-memcached calls it at each failure, and goes on as if the key were missing. Here it raises."""
        self.close_socket()
        if isinstance(reason, TimeoutError):
            self._silent_until[self.address] = time.monotonic() + SILENCE_S
        cause = reason if isinstance(reason, BaseException) else None
        raise BackendUnavailable(f"memcached at {self}: {reason}") from cause

    def ping(self, longest_s: float) -> None:
        """Each step takes no longer than that, whatever the timeout."""
        timeout_s = self.socket_timeout
        self.socket_timeout = min(timeout_s, longest_s)
        try:
            self.connect()
            self.send_cmd(b"version")
            self.expect(b"VERSION")
        finally:
            self.socket_timeout = timeout_s

    def expect(self, text: bytes, raise_exception: bool = False) -> bytes:
        line: bytes = super().readline(raise_exception)
        if line.partition(b" ")[0] in ANSWERS[text]:
            return line
        sentence = f"memcached at {self} answered {line[:100]!r}"
        raise BackendRejected(sentence) if line.startswith(TOO_LARGE) else BackendUnavailable(sentence)

    def readline(self, raise_exception: bool = False) -> bytes:
        """Called for the answer to ``gets`` only."""
        return self.expect(b"VALUE", raise_exception)

    def statistics(self, command: bytes) -> dict[str, str]:
        """Name and value of each of the eighty lines of the reply. It is read as a whole: the driver reads line by
        line, which takes ten times as long."""
        self.send_cmd(command)
        reply = b""
        while not reply.endswith(STATISTICS_END):
            received = self.socket.recv(RECEIVED_MAX)
            if not received:
                raise ConnectionResetError("the connection was closed")
            reply += received
            if not reply.startswith(b"STAT "[: len(reply)]):
                raise BackendUnavailable(f"memcached at {self} answered {reply[:100]!r}")
        return dict(STATISTIC.findall(reply.decode("ascii", "replace")))

    def _get_socket(self) -> Any:
        """A connection that is ready for a command. Raises when there is none: python-memcached would ask another
        server, whose copy may be stale."""
        if time.monotonic() < self._silent_until.get(self.address, 0):
            raise BackendUnavailable(f"memcached at {self} did not answer a moment ago")
        if self.socket is None or not self._is_clear():
            self.close_socket()
            self._open()
        self.socket.settimeout(self.socket_timeout)  # from now on
        return self.socket

    def _is_clear(self) -> bool:
        """Whether the connection belongs to this process, not to its parent, and has nothing to be read. That would be
        the reply to an earlier command, or the end of the connection."""
        return self._owner == os.getpid() and not self.buffer and not self._readable.poll(0)

    def _open(self) -> None:
        connection = DeadlineSocket(self.family, socket.SOCK_STREAM)
        connection.answer_max = ANSWER_MAX
        connection.settimeout(self.socket_timeout)
        try:
            connection.connect(self.address)
        except OSError as error:
            connection.close()
            self.mark_dead(error)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._readable = select.poll()
        self._readable.register(connection, select.POLLIN)
        self._owner = os.getpid()
        self.socket, self.buffer, self.settings = connection, b"", None


class _NoPickle:
    """Replaces the pickler and the unpickler. No value is pickled here, and one that somebody else wrote may run code
    or fill the memory."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def load(self) -> NoReturn:
        raise ValueError("a value that is not bytes")

    dump = load
