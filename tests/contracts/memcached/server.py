"""A memcached of the test's own."""

import socket

from tests.contracts.private_server import PrivateServer, free_port

TIMEOUT_S = 0.5
"""Of the caches that ask it: longer than the default, which a busy machine may exceed."""


class PrivateMemcached(PrivateServer):
    def __init__(self, *options: str) -> None:
        port = free_port()
        super().__init__(port, "memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", str(port), "-m", "16")
        self.url = f"memcached://127.0.0.1:{self.port}"
        self._options = options

    def start(self, *other_options: str) -> None:
        super().start(*(other_options or self._options))

    def connections(self) -> int:
        """How many it has, by its own count: compare two of them."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(b"stats\r\n")
            lines = connection.makefile("rb")
            stats = dict(line.split()[1:3] for line in iter(lines.readline, b"END\r\n"))
            lines.close()
        return int(stats[b"curr_connections"])
