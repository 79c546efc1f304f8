"""What ``make run`` starts: the web side and the workers, together on one machine, until Ctrl-C.

A worker that ended is started again, later each time it ends at once; when the web side ends, everything ends. Every
child is the leader of a process group of its own, so that a Ctrl-C at the terminal reaches this process alone, and
this one tells the children, waits for them, and leaves none behind. At scale, systemd or Kubernetes does this job.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

HOST = "127.0.0.1"
WORKERS_MAX = 64
GRACE_S = 10.0
"""From SIGTERM to SIGKILL."""
RESTART_S, RESTART_MAX_S = 0.5, 30.0
STEADY_S = 60.0
"""A worker that ran for so long was well: the next restart is a quick one again."""
TICK_S = 0.1

WEB = (sys.executable, "-m", "gunicorn", "-c", "conf/gunicorn.conf.py", "wsgi:app")
WORKER = (sys.executable, "worker.py")

PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
"""Looked up here, because little may be done between a fork and the command."""
PR_SET_PDEATHSIG = 1


class CannotStart(Exception):
    """The message is the sentence for the person at the terminal."""


@dataclass(slots=True)
class Child:
    """A command that runs, and is to run again after it ended."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] = field(init=False)
    started_at: float = field(init=False)
    due_at: float | None = field(init=False, default=None)
    """When it is to be started again; None while it runs."""
    pause_s: float = field(init=False, default=RESTART_S)

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, process_group=0, preexec_fn=_end_with_parent)  # noqa: S603 - our own command
        self.started_at, self.due_at = time.monotonic(), None

    def look_after(self) -> None:
        """Start it again once it ended and its pause is over."""
        if self.due_at is None and self.process.poll() is not None:
            lived_s = time.monotonic() - self.started_at
            if lived_s >= STEADY_S:
                self.pause_s = RESTART_S
            say(f"{self.name} {ending(self.process.returncode)} after {lived_s:.1f} s; again in {self.pause_s:g} s")
            self.due_at = time.monotonic() + self.pause_s
            self.pause_s = min(self.pause_s * 2, RESTART_MAX_S)
        elif self.due_at is not None and time.monotonic() >= self.due_at:
            self.start()


class Supervisor:
    """``web`` and ``workers`` run until one of the signals, or until ``web`` ends by itself."""

    def __init__(self, web: Child, workers: Sequence[Child], port: int) -> None:
        self._web, self._workers, self._port = web, workers, port
        self._stopping = False
        self._announced = False

    def run(self) -> int:
        """Returns the exit status."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)
        started: list[Child] = []
        try:
            for child in (self._web, *self._workers):
                child.start()
                started.append(child)
            while not self._stopping and self._web.process.poll() is None:
                self._announce()
                for worker in self._workers:
                    worker.look_after()
                time.sleep(TICK_S)
        finally:
            stop([child.process for child in started])
        if self._stopping:
            return 0
        say(f"web {ending(self._web.process.returncode)}, so everything was stopped")
        return 1 if self._web.process.returncode else 0

    def _stop(self, number: int, _frame: object) -> None:
        self._stopping = True
        say(f"{signal.Signals(number).name}: stopping, within {GRACE_S:g} s")

    def _announce(self) -> None:
        if not self._announced and listens(self._port):
            self._announced = True
            url = f"http://{HOST}:{self._port}"
            say(f"Coupon is at {url} and explained at {url}/docs; {len(self._workers)} worker(s); Ctrl-C stops it")


def stop(processes: Sequence[subprocess.Popen[bytes]], grace_s: float = GRACE_S) -> None:
    """SIGTERM to all, ``grace_s`` for all together, then SIGKILL to what is left of each group."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + grace_s
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            say(f"process {process.pid} did not end within {grace_s:g} s and is killed")
    for process in processes:
        with suppress(ProcessLookupError, PermissionError):  # the group is empty (macOS says the latter)
            os.killpg(process.pid, signal.SIGKILL)
    for process in processes:
        process.wait()


def ending(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"


def say(sentence: str) -> None:
    with suppress(OSError):  # a terminal that is gone is no reason to leave children behind
        sys.stderr.write(f"run: {sentence}\n")
        sys.stderr.flush()


def listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def free_port(environ: Mapping[str, str]) -> int:
    """``PORT``, on which nobody listens yet."""
    port = _number(environ, "PORT", 8080, 1, 65_535)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise CannotStart(
                f"cannot listen on {HOST}:{port} ({error.strerror}): is it running already? "
                "Another port: PORT=8081 make run"
            ) from error
    return port


def _number(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or not low <= int(text) <= high:
        raise CannotStart(f"{name}={text!r} is not a whole number from {low} to {high}")
    return int(text)


def _end_with_parent() -> None:
    """In the child before it becomes its command: SIGTERM when the parent dies, however it dies (Linux only)."""
    if PRCTL is not None:
        PRCTL(PR_SET_PDEATHSIG, signal.SIGTERM)


def main(environ: Mapping[str, str] = os.environ) -> int:
    try:
        port = free_port(environ)
        count = _number(environ, "WORKERS", 1, 0, WORKERS_MAX)
    except CannotStart as error:
        say(str(error))
        return 2
    workers = [Child(f"worker {number}", WORKER) for number in range(1, count + 1)]
    return Supervisor(Child("web", WEB), workers, port).run()


if __name__ == "__main__":
    sys.exit(main())
