"""Servers that are there and do not do what they should: silent ones, and such as say what nobody can read."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

NONSENSE = b"!! this is no answer of any protocol !!\r\n\r\n" * 4


@contextmanager
def silent_server() -> Iterator[tuple[str, list[socket.socket]]]:
    """``host:port`` of a server that takes connections and whatever is sent, and never says anything; and the
    connections that it took so far."""
    with _serving(lambda connection: None) as served:
        yield served


@contextmanager
def nonsense_server() -> Iterator[tuple[str, list[socket.socket]]]:
    """The same of one that answers whatever it is asked with nonsense, and hangs up."""

    def answer(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.recv(65_536)
            connection.sendall(NONSENSE)

    with _serving(answer) as served:
        yield served


@contextmanager
def unreachable_server() -> Iterator[str]:
    """``host:port`` of a server to which no connection comes about, and none is refused: its backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first, socket.socket() as second:
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield _address(full)


@contextmanager
def _serving(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[socket.socket]]]:
    connections: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connections.append(listener.accept()[0])
                threading.Thread(target=answer, args=connections[-1:], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        serving = threading.Thread(target=serve, args=[listener], daemon=True)
        serving.start()
        try:
            yield _address(listener), connections
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()
            for connection in connections:
                connection.close()


def _address(listener: socket.socket) -> str:
    return "{}:{}".format(*listener.getsockname())
