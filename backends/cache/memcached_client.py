"""What we mend in python-memcached 1.62: all of its private names that we use are in this module.

``StrictClient`` raises when memcached fails.
    By itself the driver answers "missing" or "not stored" when a server is unavailable. It asks another server instead,
    whose copy grows old, and ignores the first one for 30 s. It sends a command again when its reply was lost, and it
    unpickles what it reads. Here a failure is raised, a key has one server, a command is sent once, and nothing is
    unpickled. The promises of the cache rest on it, so there is nothing to fall back to: a driver without these names
    fails at the start.

``store_and_get`` takes one round trip where the driver takes two.
    Where the driver has another connection, two round trips are taken, and one warning is logged.
"""

import os
import re
import select
import socket
import time
from collections.abc import Sequence
from typing import Any, NoReturn, Self

import memcache
import structlog

from backends.cache.limits import VALUE_MAX
from backends.deadline_socket import DeadlineSocket
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.ports.cache import Added, Cached

SILENCE_S = 0.5
"""A server that let a timeout pass is not asked again for so long, by any thread: each question would cost as much."""
ANSWERS = {
    b"VALUE": (b"VALUE", b"END"),
    b"STORED": (b"STORED", b"NOT_STORED", b"EXISTS", b"NOT_FOUND"),
    b"DELETED": (b"DELETED", b"NOT_FOUND"),
    b"END": (b"END",),
    b"VERSION": (b"VERSION",),
}
"""How a reply may begin, by what was hoped for. Anything else python-memcached takes for a miss."""
STATISTIC = re.compile(r"^STAT (\S+) (.*)\r$", re.MULTILINE)
STATISTICS_END = b"\r\nEND\r\n"
RECEIVED_MAX = 65_536
OURS = 0
"""The flags of a value that was written here: bytes as they are."""
FOREIGN = b""
"""In the place of a value that somebody else wrote: of other flags, or too long."""
NO_SUCH_TOKEN = 0
"""An id that no entry has: memcached counts from 1."""
HOOKS = ("send_cmd", "recv", "close_socket")
"""What several commands in one round trip use of the driver's connection."""
ANSWER_MAX = 1024 * 1024
"""Bytes of an answer: twice what we store."""
TOO_LARGE = b"SERVER_ERROR object too large"
FAILURES = (memcache._Error, OSError)
"""What the driver's connection raises."""
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


class StrictClient(memcache.Client):  # type: ignore[misc]  # python-memcached has no types
    """A thread-local: ``__init__`` runs once a thread, which has connections of its own. ``silent_until`` is shared.

    Each use is a ``with`` block. It ends with no reply under way and no compare-and-set id left, or with no connection.
    """

    def __init__(
        self, servers: Sequence[str], timeout_s: float, silent_until: dict[Any, float], *, pipelines: bool
    ) -> None:
        self._silent_until, self._pipelines = silent_until, pipelines
        super().__init__(
            servers,
            socket_timeout=timeout_s,
            cache_cas=True,
            check_keys=False,  # ours are narrower, and checked
            server_max_value_length=0,  # a longer value would silently not be stored: let the server say so
            pickler=_NoPickle,
            unpickler=_NoPickle,
            decompressor=_NoPickle,
        )

    def set_servers(self, servers: Sequence[str]) -> None:
        self.servers = [_Server(address, self.socket_timeout, self._silent_until) for address in servers]
        self.buckets = self.servers

    def store_and_get(
        self, command: bytes, name: bytes, value: bytes, ttl_s: int, token: int | None = None
    ) -> int | None:
        """``add``, or ``cas`` of the token, and then ``gets``, in one round trip: memcached returns the id of a new
        entry to ``gets`` only. None when the value was not stored. ``NO_SUCH_TOKEN`` when it was, and the entry is
        another one already."""
        return self._store_and_get(command, name, value, ttl_s, token, [name])[0]

    def add_and_get(self, name: bytes, value: bytes, ttl_s: int, other: bytes) -> Added:
        """``add`` as in ``store_and_get``, and ``gets`` of another key of the same server, in one round trip."""
        return Added(*self._store_and_get(b"add", name, value, ttl_s, None, [name, other]))

    def _store_and_get(
        self, command: bytes, name: bytes, value: bytes, ttl_s: int, token: int | None, asked: Sequence[bytes]
    ) -> tuple[int | None, Cached | None]:
        """Store, and ``gets`` of each key that is asked for: the token of the first, and the entry of the last."""
        if not self._pipelines:
            return self._store_then_get(command, name, value, ttl_s, token, asked)
        server = self._connected(name)
        head = b"%s %s 0 %d %d" % (command, name, ttl_s, len(value))
        head += b"" if token is None else b" %d" % token
        try:
            server.send_cmd(b"\r\n".join((head, value, *(b"gets " + each for each in asked))))
            is_stored = server.expect(b"STORED") == b"STORED"
            found = [self._found(server, each) for each in asked]
        except FAILURES as error:
            server.mark_dead(error)
        return _token_of(value, found[0]) if is_stored else None, found[-1]

    def _store_then_get(
        self, command: bytes, name: bytes, value: bytes, ttl_s: int, token: int | None, asked: Sequence[bytes]
    ) -> tuple[int | None, Cached | None]:
        """The same in a round trip for each, by what the driver documents."""
        if token is not None:
            self.cas_ids[name] = token
        is_stored = self.add(name, value, ttl_s) if command == b"add" else self.cas(name, value, ttl_s)
        found = [self.get_one(each) for each in asked]
        return _token_of(value, found[0]) if is_stored else None, found[-1]

    def get_one(self, name: bytes) -> Cached | None:
        """The entry with its id, None when it is missing; ``FOREIGN`` where it was not written here."""
        if not self._pipelines:
            value = self.gets(name)
            return None if value is None else Cached(value, self.cas_ids[name])
        server = self._connected(name)
        try:
            server.send_cmd(b"gets " + name)
            return self._found(server, name)
        except FAILURES as error:
            server.mark_dead(error)

    def _found(self, server: "_Server", name: bytes) -> Cached | None:
        """What the server answers to ``gets``. Of a value that is longer than any of ours nothing is read."""
        line = server.expect(b"VALUE")
        if line == b"END":
            return None
        _, found, flags, length, token = line.split()
        if found != name:
            raise BackendUnavailable(f"memcached at {server} answered for {found[:100]!r}")
        size = int(length)
        if not 0 <= size <= VALUE_MAX:
            server.close_socket()
            return Cached(FOREIGN, int(token))
        value = server.recv(size + 2)[:-2]
        server.expect(b"END")
        return Cached(value if int(flags) == OURS else FOREIGN, int(token))

    def _connected(self, name: bytes) -> "_Server":
        server = self.server_of(name)
        server.connect()
        return server

    def server_of(self, name: bytes) -> "_Server":
        """Which one has the key. No I/O."""
        server: _Server = self.buckets[memcache.serverHashFunction(name) % len(self.buckets)]
        return server

    def statistics(self, name: bytes) -> dict[str, str]:
        """What the key's server counts, and how it is set (``setting …``), which a connection asks for once: a server
        that was restarted with other settings has another connection."""
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
        # What is still under way would be taken for the answer to the next question.
        self.disconnect_all()
        if isinstance(error, OSError | ValueError):
            raise BackendUnavailable(f"memcached: {error}") from error


class _Server(memcache._Host):  # type: ignore[misc]  # python-memcached has no types
    """One thread's connection to one server."""

    socket: Any = None
    settings: dict[str, str] | None = None

    def __init__(self, address: str, timeout_s: float, silent_until: dict[Any, float]) -> None:
        super().__init__(address, socket_timeout=timeout_s)
        self.place = str(self.address)
        self._silent_until = silent_until

    def __del__(self) -> None:
        self.close_socket()

    def mark_dead(self, reason: object) -> NoReturn:
        """What python-memcached calls at each failure, to go on as if the key were missing."""
        self.close_socket()
        if isinstance(reason, TimeoutError):
            self._silent_until[self.address] = time.monotonic() + SILENCE_S
        cause = reason if isinstance(reason, BaseException) else None
        raise BackendUnavailable(f"memcached at {self}: {reason}") from cause

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
        """Name and value of each line of the reply. It has some eighty, and is taken as a whole: line by line, the
        driver takes ten times as long."""
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
        """A connection that can be asked at once. Raises when there is none: python-memcached would ask another server,
        whose copy grows old while it is not asked."""
        if time.monotonic() < self._silent_until.get(self.address, 0):
            raise BackendUnavailable(f"memcached at {self} did not answer a moment ago")
        if self.socket is None or not self._is_clear():
            self.close_socket()
            self._open()
        self.socket.settimeout(self.socket_timeout)  # from now on
        return self.socket

    def _is_clear(self) -> bool:
        """True when the connection belongs to this process, not to its parent, and nothing is there to be read. What is
        there would be the reply to an earlier command, or the end of the connection."""
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
    """In the place of what reads and writes values that are not bytes. None is written here, and one that somebody
    else wrote may run code or fill the memory."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def load(self) -> NoReturn:
        raise ValueError("a value that is not bytes")

    dump = load
