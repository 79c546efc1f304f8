"""A Redis of the test's own."""

import socket
from pathlib import Path

from tests.contracts.private_server import PrivateServer, free_port

DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
MEMORY_ONLY = ("--appendonly", "no", "--save", "")


class PrivateRedis(PrivateServer):
    """Not started yet; always at the same port, with its data in the folder."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
        super().__init__(port, *command, is_ready=_answers)
        self.url = f"redis://127.0.0.1:{port}"


def _answers(port: int) -> bool:
    """It listens before it has loaded its data."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return not connection.recv(100).startswith(b"-LOADING")
    except OSError:
        return False
