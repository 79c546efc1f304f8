"""python-memcached, made to say when it fails.

By itself it answers "missing" or "not stored" when a server is away, asks another server instead, ignores the first
one for 30 s, sends a command again when its reply was lost, and unpickles what it reads. Here a failure is raised, a
key has one server whatever happens, a command is sent once, and nothing is unpickled.
"""

import os
import select
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, Self

import memcache

from backends.cache.limits import VALUE_MAX
from backends.deadline_socket import DeadlineSocket
from coupon.ports.backend import BackendRejected, BackendUnavailable
from coupon.ports.cache import Added, Cached

SILENCE_S = 0.5
"""A server that let a timeout pass is not asked again for so long, by any thread: each question would cost as much."""
ANSWERS = {
    b"VALUE": (b"VALUE", b"END"),
    b"STORED": (b"STORED", b"NOT_STORED", b"EXISTS", b"NOT_FOUND"),
    b"DELETED": (b"DELETED", b"NOT_FOUND"),
    b"END": (b"END",),
    b"VERSION": (b"VERSION",),
    b"STAT": (b"STAT", b"END"),
}
"""How a reply may begin, by what was hoped for. Anything else python-memcached takes for a miss."""
STATISTICS_MAX = 1_000
OURS = 0
"""The flags of a value that was written here: bytes as they are."""
FOREIGN = b""
"""In the place of a value that somebody else wrote: of other flags, or too long."""
GONE = 0
"""An id that no entry has: memcached counts from 1."""
ANSWER_MAX = 1024 * 1024
"""Bytes of an answer: twice what we store."""
TOO_LARGE = b"SERVER_ERROR object too large"


class StrictClient(memcache.Client):  # type: ignore[misc]  # python-memcached has no types
    """A thread-local: ``__init__`` runs once a thread, which has connections of its own; ``silent_until`` is the one
    thing that threads share. Each use is a ``with`` block, which ends with no reply under way and no compare-and-set
    id left, or with no connection."""

    def __init__(self, servers: Sequence[str], timeout_s: float, silent_until: dict[Any, float]) -> None:
        self._silent_until = silent_until
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
        self._init_buckets()

    def store_and_get(
        self, command: bytes, name: bytes, value: bytes, ttl_s: int, token: int | None = None
    ) -> int | None:
        """``add``, or ``cas`` of the token, and ``gets`` of what is there then, in one go: memcached tells of a new
        entry's id only who asks for it. None when it was not stored; an id that nothing has when it was, and the entry
        is another one already."""
        head = b"%s %s 0 %d %d" % (command, name, ttl_s, len(value))
        head += b"" if token is None else b" %d" % token
        return self._store_and_get(name, head, value, [name])[0]

    def add_and_get(self, name: bytes, value: bytes, ttl_s: int, other: bytes) -> Added:
        """``add`` as ``store_and_get`` has it, and ``gets`` of another key of the same server, in one go."""
        token, found = self._store_and_get(name, b"add %s 0 %d %d" % (name, ttl_s, len(value)), value, [name, other])
        return Added(token, found)

    def _store_and_get(
        self, name: bytes, head: bytes, value: bytes, asked: Sequence[bytes]
    ) -> tuple[int | None, Cached | None]:
        """Store, and ``gets`` each that is asked for: the token of the first, and the last."""
        server: _Server = self._get_server(name)[0]
        try:
            server.send_cmd(b"\r\n".join((head, value, *(b"gets " + each for each in asked))))
            is_stored = server.expect(b"STORED") == b"STORED"
            found = [self._found(server, each) for each in asked]
        except (memcache._Error, OSError) as error:
            server.mark_dead(error)
        if not is_stored:
            return None, found[-1]
        mine = found[0]
        return mine.token if mine is not None and mine.value == value else GONE, found[-1]

    def get_one(self, name: bytes) -> Cached | None:
        """The entry with its id, None when it is missing; ``FOREIGN`` where it was not written here."""
        server: _Server = self._get_server(name)[0]
        try:
            server.send_cmd(b"gets " + name)
            return self._found(server, name)
        except (memcache._Error, OSError) as error:
            server.mark_dead(error)

    def _found(self, server: "_Server", name: bytes) -> Cached | None:
        """What the server answers to ``gets``. Of a value that is longer than any of ours nothing is read."""
        found, flags, size, token = self._expect_cas_value(server)
        if found is None:
            return None
        if found != name:
            raise BackendUnavailable(f"memcached at {server} answered for {found[:100]!r}")
        if not 0 <= size <= VALUE_MAX:
            server.close_socket()
            return Cached(FOREIGN, token)
        value = server.recv(size + 2)[:-2]
        server.expect(b"END")
        return Cached(value if flags == OURS else FOREIGN, token)

    def server_of(self, name: bytes) -> "_Server":
        """Which one has the key. No I/O."""
        server: _Server = self.buckets[memcache.serverHashFunction(name) % len(self.buckets)]
        return server

    def statistics(self, name: bytes) -> dict[str, str]:
        """What the key's server counts, and how it is set (``setting …``), which a connection asks for once: a server
        that was restarted with other settings has another connection."""
        server: _Server = self._get_server(name)[0]
        try:
            if server.settings is None:
                server.send_cmd(b"stats settings")
                server.settings = {f"setting {name}": value for name, value in _statistics(server)}
            server.send_cmd(b"stats")
            return server.settings | dict(_statistics(server))
        except (memcache._Error, OSError) as error:
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
        """True when the connection is this process's own (not its parent's), and holds neither the reply to an
        earlier question nor the end of a server that has gone."""
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


def _statistics(server: _Server) -> Iterator[tuple[str, str]]:
    """Name and value of each, up to the end."""
    for _ in range(STATISTICS_MAX):
        line = server.expect(b"STAT")
        if line == b"END":
            return
        _, _, counted = line.decode("ascii", "replace").partition(" ")
        name, _, value = counted.partition(" ")
        yield name, value
    raise BackendUnavailable(f"memcached at {server} counts without end")


class _NoPickle:
    """In the place of what reads and writes values that are not bytes. None is written here, and one that somebody
    else wrote may run code or fill the memory."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def load(self) -> NoReturn:
        raise ValueError("a value that is not bytes")

    dump = load
