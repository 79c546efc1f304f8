"""A server of the test's own, to be killed and frozen."""

import fcntl
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

FOLDER = Path(tempfile.gettempdir()) / f"coupon-test-ports-{os.getuid()}"
_LOCKS: list[IO[str]] = []
PORTS = range(30_000, 32_700)
"""Below those that the kernel hands out, so that a server that was killed finds its port free again."""


def free_port() -> int:
    """A port at which nothing listens. No other process of these tests gets it while this one runs."""
    return next(
        port for port in random.SystemRandom().sample(PORTS, len(PORTS)) if _is_mine(port) and not listens(port)
    )


def _is_mine(port: int) -> bool:
    """Whether nobody has got the port before: who has, holds the lock of its file."""
    FOLDER.mkdir(exist_ok=True)
    file = (FOLDER / str(port)).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    _LOCKS.append(file)
    return True


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
