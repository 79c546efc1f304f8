"""A server of the test's own, to be killed and frozen."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable

PORTS = range(30_000, 32_700)
"""Below those that the kernel hands out, so that a server that was killed finds its port free again."""


def free_port() -> int:
    """A port at which nothing listens."""
    return next(port for port in random.sample(PORTS, len(PORTS)) if not listens(port))


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class PrivateServer:
    """Not started yet; always at the same port. ``is_ready`` tells whether it serves at that port."""

    def __init__(self, port: int, *command: str, is_ready: Callable[[int], bool] = listens) -> None:
        self.port = port
        self._command, self._is_ready = command, is_ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [*self._command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while not self._is_ready(self.port):
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
