"""The service's processes, as an operator runs them: gunicorn masters on ports of their own, and workers. Each can be
killed, stopped and started again alone, and all of them end with this process, however it ends."""

import os
import random
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import urllib3

from tests.e2e.deployment import ROOT, children, eventually

MARK = "CHAOS_RUN"
WEB_PROCESSES = 2
"""Of each gunicorn master."""
START_S = 60
BIND_AGAIN_S = 90
"""An orphan that is stopped holds the port until it goes on, and has then finished its requests."""


PORTS = range(30_000, 32_000)
"""Below those that the kernel hands out, so that a master that was killed finds its port free again."""


class Program:
    """A worker or a gunicorn master: one command line, started again and again."""

    def __init__(self, name: str, command: list[str], environ: Mapping[str, str], log: Path) -> None:
        self.name, self._command, self._environ, self._log = name, command, environ, log
        self.process: subprocess.Popen[bytes] | None = None
        self.ended: list[str] = []
        """When it was found to have ended by itself."""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environ, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """SIGKILL, to this process alone."""
        assert self.process is not None
        self.check()
        self.process.kill()
        self.process.wait()

    def check(self) -> None:
        """Take note if it has ended by itself."""
        if (status := self.status()) is not None:
            self.ended.append(f"{self.name} ended with status {status}: see {self._log.name}")

    def status(self) -> int | None:
        """The exit status when it has ended."""
        return None if self.process is None else self.process.poll()


class Master(Program):
    """A gunicorn master with its workers."""

    def __init__(self, name: str, environ: Mapping[str, str], log: Path) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "gunicorn", "-c", "conf/gunicorn.conf.py", "wsgi:app"]
        ours = {"PORT": str(self.port), "WEB_CONCURRENCY": str(WEB_PROCESSES)}
        super().__init__(name, command, {**environ, **ours}, log)

    def start(self) -> None:
        """Returns when it answers. An orphan of the one before may hold the port for a while, and answer on it."""
        eventually(lambda: _is_free(self.port), BIND_AGAIN_S)
        super().start()
        eventually(self._answers, START_S)

    def child(self, number: int) -> int | None:
        """The process id of one of its workers, None when it has none just now."""
        found = sorted(self._alive()) if self.status() is None else []
        return found[number % len(found)] if found else None

    def is_whole(self, without: int) -> bool:
        """Whether it has all of its workers, not counting the one that is to have gone."""
        with suppress(OSError):
            return len(self._alive() - {without}) >= WEB_PROCESSES
        return False

    def _alive(self) -> set[int]:
        return {child for child in children(self.pid) if not _is_zombie(child)}

    def _answers(self) -> bool:
        with suppress(urllib3.exceptions.HTTPError):
            return urllib3.request("GET", f"{self.url}/livez", timeout=1, retries=False).status == 200
        return False


class Cluster:
    """All processes of the service. Logs go to the folder."""

    def __init__(
        self, web: Mapping[str, str], worker: Mapping[str, str], folder: Path, webs: int = 2, workers: int = 3
    ) -> None:
        self._mark = uuid.uuid4().hex
        mark = {MARK: self._mark}
        self._init = {**web, **mark}
        self.masters = [Master(f"web{n}", {**web, **mark}, folder / f"web{n}.log") for n in range(webs)]
        command = [sys.executable, "worker.py"]
        self.workers = [
            Program(f"worker{n}", command, {**worker, **mark}, folder / f"worker{n}.log") for n in range(workers)
        ]
        self._undertaker: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Cluster":
        # Reads until this process closes the pipe, or the kernel does it for it; out of a Ctrl-C's reach.
        script = (
            'read -r; for it in $(grep -lsa "$1=$2" /proc/[0-9]*/environ); do it=${it#/proc/}; kill -9 ${it%/*}; done'
        )
        self._undertaker = subprocess.Popen(
            ["bash", "-c", script, "undertaker", MARK, self._mark],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            coupon = str(Path(sys.executable).parent / "coupon")
            subprocess.run([coupon, "init"], cwd=ROOT, env=self._init, capture_output=True, timeout=60, check=True)
            for program in (*self.workers, *self.masters):
                program.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        programs = [program for program in (*self.masters, *self.workers) if program.status() is None]
        for program in programs:
            if program.process is not None:
                program.process.send_signal(signal.SIGCONT)
                program.process.terminate()
        for program in programs:
            if program.process is not None:
                with suppress(subprocess.TimeoutExpired):
                    program.process.wait(15)
        assert self._undertaker is not None
        assert self._undertaker.stdin is not None
        self._undertaker.stdin.close()
        self._undertaker.wait(30)
        for program in programs:
            if program.process is not None:
                program.process.wait(5)

    def ended(self) -> list[str]:
        """Which have ended by themselves, then or now."""
        programs = (*self.masters, *self.workers)
        for program in programs:
            program.check()
        return [sentence for program in programs for sentence in program.ended]

    def restart_missing(self) -> None:
        for program in (*self.masters, *self.workers):
            if program.status() is not None:
                program.start()


def _is_zombie(pid: int) -> bool:
    """Dead, but its parent (that may be stopped) does not know yet. Nor is one alive that has gone meanwhile."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


def send(pid: int, number: signal.Signals) -> None:
    """The process may have ended meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _free_port() -> int:
    return next(port for port in random.sample(PORTS, len(PORTS)) if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
