"""What ``make run`` starts: the web side and the workers, together on one machine, until Ctrl-C.

A worker that ended is started again after a second; when the web side ends, everything ends. Each child leads a process
group of its own, so a Ctrl-C reaches this process alone. It stops the children, and leaves none behind. At scale,
systemd or Kubernetes does this job.

What it says are lines for people at a terminal, or where COUPON_LOG_FORMAT is ``text``. Else each is a JSON object, as
the children's are.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from coupon.domain.errors import ConfigurationError
from coupon.runtime import logs, server_settings
from coupon.runtime.settings import log_format

GRACE_S = 10.0
"""Seconds from SIGTERM to SIGKILL."""
RESTART_S, TICK_S = 1.0, 0.1
WEB = (sys.executable, "-m", "gunicorn", "-c", "conf/gunicorn.conf.py", "wsgi:app")
WORKER = (sys.executable, "worker.py")
PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
"""Looked up here, because little may be done between a fork and the command."""
PR_SET_PDEATHSIG = 1

Process = subprocess.Popen[bytes]


def main() -> int:
    """Returns the exit status."""
    try:
        settings, workers = server_settings.load(), server_settings.whole_number(os.environ, "WORKERS", 1, 0, 64)
        ensure_nobody_listens(settings.host, settings.port, "PORT=8081 make run")
    except ConfigurationError as error:
        say(str(error), "error")
        return 2
    os.environ["WEB_CONCURRENCY"] = str(settings.processes)  # gunicorn reads it before conf/, and takes no empty one
    signals: list[int] = []
    for ending_signal in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending_signal, lambda number, _: signals.append(number))
    web, children = start(WEB), dict[str, Process]()
    url = f"http://{settings.host}:{settings.port}"
    say(f"Coupon will be at {url} and explained at {url}/docs; {workers} worker(s); Ctrl-C stops it")
    try:
        for number in range(1, workers + 1):
            children[f"worker {number}"] = start(WORKER)
        while not signals and web.poll() is None:
            _restart(children)
            time.sleep(TICK_S)
    finally:
        ended = web.poll()
        if ended is None:
            say("stopping")
        else:
            say(f"web {ending(ended)}, so everything is stopped", "error")
        stop([web, *children.values()])
    return 1 if ended else 0


def start(command: Sequence[str]) -> Process:
    return subprocess.Popen(command, process_group=0, preexec_fn=_end_with_parent)  # noqa: S603 - our own command


def _restart(children: dict[str, Process]) -> None:
    """Start the workers again that have ended."""
    for name, child in children.items():
        if child.poll() is not None:
            say(f"{name} {ending(child.returncode)}; again in {RESTART_S:g} s", "warning")
            time.sleep(RESTART_S)
            children[name] = start(WORKER)


def stop(processes: Sequence[Process], grace_s: float = GRACE_S) -> None:
    """SIGTERM to all; after ``grace_s`` at the latest, SIGKILL to what is left of each process group."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + grace_s
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            say(f"process {process.pid} did not end within {grace_s:g} s and is killed", "warning")
    for process in processes:
        with suppress(ProcessLookupError, PermissionError):  # the group is empty (macOS says the latter)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ending(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"


def say(sentence: str, level: str = "info") -> None:
    for_people = sys.stderr.isatty() or log_format() == "text"
    with suppress(OSError):  # a terminal that is closed is no reason to leave children behind
        sys.stderr.write(f"run: {sentence}\n" if for_people else f"{logs.line('run', sentence, level)}\n")
        sys.stderr.flush()


def ensure_nobody_listens(host: str, port: int, elsewhere: str) -> None:
    """Raise ConfigurationError when the address is in use, with the command that takes another one."""
    try:  # gunicorn takes addresses of IPv6 in brackets
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port} ({error.strerror}): is it running already? Another port: {elsewhere}"
        ) from error


def _end_with_parent() -> None:
    """Runs in the child before its command. It gets SIGTERM when the parent dies, by SIGKILL too (Linux only)."""
    if PRCTL is not None:
        PRCTL(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
