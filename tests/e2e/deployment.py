"""A running service: gunicorn and workers as real processes, as an operator starts them, and a client for it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import requests

from coupon.runtime import settings
from coupon.runtime.wiring import Backends, open_backends

ROOT = Path(__file__).parents[2]


def embedded(folder: Path) -> dict[str, str]:
    """The environment of a service on SQLite files."""
    return {
        **_common(folder),
        **{
            f"COUPON_{role}_URL": f"sqlite:///{folder}/{role.lower()}.db"
            for role in ("CACHE", "QUEUE", "STORE", "SEARCH")
        },
    }


class Servers(NamedTuple):
    """The real servers that a service runs on."""

    queue: str = "kafka"
    store: str = "dynamodb"
    search: str = "elasticsearch"
    cache: str = "memcached"

    @property
    def names(self) -> list[str]:
        """Each once: one server may have two roles."""
        return list(dict.fromkeys(self))


USUAL = Servers()
ON_REDIS = Servers(queue="redis", cache="redis")
URLS = {
    ("cache", "memcached"): "memcached://{at}?prefix={name}:&timeout_s={cache_timeout_s}",
    ("cache", "redis"): "redis://{at}?prefix={name}:&timeout_s={cache_timeout_s}",
    ("queue", "kafka"): "kafka://{at}?prefix={name}.&partitions={partitions}",
    ("queue", "redis"): "redis://{at}?prefix={name}.&partitions={partitions}",
    ("store", "dynamodb"): "dynamodb://{at}?region=local&table={name}",
    ("search", "elasticsearch"): "elasticsearch://{at}?index={name}",
    ("search", "mongodb"): "mongodb://{at}/{name}?index={name}",
}


def on_services(
    folder: Path, services: Any, cache_timeout_s: float = 0.2, partitions: int = 4, servers: Servers = USUAL
) -> dict[str, str]:
    """The environment of a service on the real servers, apart from all others by a name of its own. With a longer
    timeout a busy machine is no outage of the cache, in which rivals are told 202 both."""
    options = {"name": f"t{uuid.uuid4().hex[:10]}", "cache_timeout_s": cache_timeout_s, "partitions": partitions}
    roles = servers._asdict().items()
    urls = {role: URLS[role, server].format(at=getattr(services, server), **options) for role, server in roles}
    return {**_common(folder), **{f"COUPON_{role.upper()}_URL": url for role, url in urls.items()}}


def _common(folder: Path) -> dict[str, str]:
    conf = folder / "none.env"
    conf.touch()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COUPON_")}
    return {
        **environ,
        "COUPON_CONF": str(conf),
        "COUPON_SECRET": "a secret for tests only",
        "COUPON_GUESSES_PER_MINUTE": "0",
        "COUPON_HEARTBEAT_FILE": str(folder / "worker.heartbeat"),
        "PYTHONPATH": str(ROOT),
    }


class Deployment:
    """``with Deployment(environ) as service: service.post(…)``. Logs go to the folder of the configuration."""

    def __init__(self, environ: dict[str, str], web: int = 2, workers: int = 1) -> None:
        self.folder = Path(environ["COUPON_CONF"]).parent
        self.port = free_port()
        self.environ = {**environ, "PORT": str(self.port), "WEB_CONCURRENCY": str(web)}
        self.url = f"http://127.0.0.1:{self.port}"
        self.session = requests.Session()
        self.web: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self._workers = workers

    def __enter__(self) -> "Deployment":
        try:
            self.coupon("init")
            self.start_web()
            for _ in range(self._workers):
                self.start_worker()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        processes = [*self.workers, *([self.web] if self.web else [])]
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                # Nobody is served any more: at SIGTERM gunicorn would wait two seconds for idle connections.
                process.send_signal(signal.SIGQUIT if process is self.web else signal.SIGTERM)
        for process in processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Gunicorn's master."""
        assert self.web is not None
        return self.web

    def coupon(self, *arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run the CLI."""
        command = [str(Path(sys.executable).parent / "coupon"), *arguments]
        ran = subprocess.run(
            command, cwd=ROOT, env=self.environ, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert not check or ran.returncode == 0, ran.stderr
        return ran

    def backends(self) -> Backends:
        """Those of its settings, for a test that writes past the service."""
        return open_backends(settings.load(self.environ))

    def start_web(self) -> None:
        command = [sys.executable, "-m", "gunicorn", "-c", "conf/gunicorn.conf.py", "wsgi:app"]
        self.web = self._start(command, "web.log")
        eventually(self._is_alive, 30, requests.ConnectionError)

    def start_worker(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = self._start([sys.executable, "worker.py", *arguments], "worker.log")
        self.workers.append(process)
        return process

    def kill_worker(self) -> None:
        """kill -9 of the first worker, and a new one in its place."""
        process = self.workers.pop(0)
        process.kill()
        process.wait()
        self.start_worker()

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=10, **options)

    def create(self, amount: int) -> list[str]:
        """New coupons, applied; their codes."""
        body = {"amount": amount, "validFrom": "2020-01-01", "expireAt": "2099-12-31"}
        answer = self.session.post(f"{self.url}/v1/coupons", json=body, headers={"Prefer": "wait=30"}, timeout=40)
        assert answer.status_code in (200, 202), answer.text
        place, codes = answer.headers["Location"], []
        eventually(lambda: self.get(place).json()["status"] == "applied", 120)
        page = self.get(place, params={"limit": 1000}).json()
        codes += page["couponCodes"]
        while page["next"]:
            page = self.get(place, params={"limit": 1000, "cursor": page["next"]}).json()
            codes += page["couponCodes"]
        return codes

    def put(
        self, command: str, session: requests.Session | None = None, headers: dict[str, str] | None = None, **body: Any
    ) -> requests.Response:
        """One of issue, use, cancel, cancel-use."""
        session = session or self.session
        return session.put(f"{self.url}/v1/coupons/{command}", json=body, headers=headers, timeout=10)

    def _is_alive(self) -> bool:
        assert self.web is not None
        assert self.web.poll() is None, (self.folder / "web.log").read_text()
        return self.get("/livez").status_code == 200

    def _start(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as file:
            return subprocess.Popen(command, cwd=ROOT, env=self.environ, stdout=file, stderr=file)


def eventually(holds: Callable[[], bool], within_s: float, *ignored: type[Exception]) -> float:
    """Wait until it holds; how long that took. Fails after ``within_s``."""
    started = time.monotonic()
    while True:
        try:
            if holds():
                return time.monotonic() - started
        except ignored:
            pass
        assert time.monotonic() - started < within_s, f"not within {within_s} s"
        time.sleep(0.05)


def rss_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def rss_peak_mb(pid: int) -> float:
    """The most resident memory that the process ever had, in MB; 0 when it has ended. (rusage would count what its
    parent had when it forked.)"""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) / 1000 if found else 0


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
