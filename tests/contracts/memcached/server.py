"""A memcached of the test's own, to be killed and frozen."""

import os
import random
import signal
import socket
import subprocess
import time

PORTS = range(30_000, 32_700)
"""Below those that the kernel hands out, so that a server that was killed finds its port free again."""


TIMEOUT_S = 0.5
"""Of the caches that ask it: longer than the default, which a busy machine may exceed."""


def free_port() -> int:
    """A port at which nothing listens."""
    return next(port for port in random.sample(PORTS, len(PORTS)) if not listens(port))


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class PrivateMemcached:
    """Not started yet; always at the same port."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.url = f"memcached://127.0.0.1:{self.port}"
        self._command = ["memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", str(self.port), "-m", "16"]
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *other_options: str) -> None:
        command = [*self._command, *(other_options or self._options)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not listens(self.port):
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It accepts connections and commands, and answers nothing: what a black hole looks like."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # the signal takes its time

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def connections(self) -> int:
        """How many it has, by its own count: compare two of them."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(b"stats\r\n")
            lines = connection.makefile("rb")
            stats = dict(line.split()[1:3] for line in iter(lines.readline, b"END\r\n"))
            lines.close()
        return int(stats[b"curr_connections"])
